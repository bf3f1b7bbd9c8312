// Package erofs writes a tree as one read-only EROFS image, in the style of composefs.
//
// A tree comes in as a sorted list. It is checked and linked: every entry finds its
// directory, every hard link its inode. Its extended attributes are collected and those
// used more than once become shared. Every inode and directory block gets its place, the
// image is filled in at these places, named by its digest, and handed out in one piece.
// From then on only the kernel reads it, as a lower layer of an overlay mount.
//
// Directories, links, devices and small files are in the image whole. A file kept as an
// object is a hole of its real size whose overlay attributes (metacopy and redirect) lead
// to the object in a data-only layer, which needs Linux 6.5. The format is that of
// Documentation/filesystems/erofs.rst with features every such kernel has.
package erofs

import (
	"crypto/sha256"
	"io"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// Options choose among the kinds of image. The zero value is a complete file system.
type Options struct {
	// Overlay allows opaque directories and whiteouts, for an image that is laid over
	// another lower layer and hides parts of it.
	Overlay bool

	// Verity tells the fs-verity digest (SHA-256, 4 KiB blocks) of an object. It is put
	// into the image for overlayfs to check (mount option verity, Linux 6.6). A nil
	// Verity, or false, leaves the object unchecked.
	Verity func(object oci.Digest) (digest [sha256.Size]byte, ok bool)
}

// Info describes an image that was written.
type Info struct {
	Size   int64      // bytes, a multiple of BlockSize
	Digest oci.Digest // sha256 of the image
	Inodes int        // hard links counted once

	// Dropped counts extended attributes that Linux has no namespace for, such as
	// "com.apple.provenance": no Linux file system could have held them.
	Dropped int
}

// Write writes t as an image. Equal trees and options make equal bytes. Nothing is
// written before the whole tree has been checked; after an error from w itself what was
// written is worthless. Memory is that of the image and about 100 bytes an entry.
//
// Attributes in t that overlayfs would obey (trusted.overlay.*) are escaped, and a
// character device 0:0, which it would take for a whiteout, becomes an empty file marked
// as an escaped whiteout. So a foreign layer can neither redirect a file nor hide one, and
// an overlay mounted inside the container still sees both as they were meant
// (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").
func Write(w io.Writer, t *tree.Tree, opt Options) (Info, error) {
	b := &builder{entries: t.Entries, opt: opt}
	if err := b.link(); err != nil {
		return Info{}, err
	}
	if err := b.collectXattrs(); err != nil {
		return Info{}, err
	}
	if err := b.layout(); err != nil {
		return Info{}, err
	}
	b.fill()
	sum := sha256.New()
	sum.Write(b.image)
	info := Info{Size: int64(len(b.image)), Digest: oci.SHA256(sum), Inodes: b.inodes, Dropped: b.dropped}
	if _, err := w.Write(b.image); err != nil {
		return Info{}, errs.Wrap(opWrite, "", err)
	}
	return info, nil
}

const opWrite = "write file system image"

// builder is one image in the making.
type builder struct {
	entries []tree.Entry
	opt     Options
	nodes   []node  // one for each entry
	attrs   []attr  // each different attribute once
	refs    []int32 // indexes into attrs: the attributes of node 0, 1, ...
	dropped int
	inodes  int
	chunked bool  // some file is a hole
	acls    bool  // some file has a POSIX ACL
	epoch   stamp // the time of all compact inodes
	shared  int64 // offset of the shared attributes
	image   []byte
}

// node is what the builder knows of an entry beyond the entry itself. For a hard link
// only parent, next and target have a meaning.
type node struct {
	parent int32 // the directory's entry; the root is its own parent
	next   int32 // the entry after the last one below this
	target int32 // the entry whose inode this is: itself unless a hard link
	nlink  uint32

	kind  tree.Type // as written: a Whiteout is a Char, a device 0:0 a Regular
	marks marks

	redirected bool // a hole that leads to an object

	firstAttr, nAttrs int32  // in builder.refs
	xattrs            uint32 // bytes of attributes in the inode

	pos    int64  // offset of the inode
	size   int64  // st_size
	tail   uint32 // bytes of data, or of chunk addresses, that follow inode and attributes
	blocks uint32 // data blocks outside the inode
	block  uint32 // the first of them
}

// marks are the things an entry means to an overlay mounted inside the container.
type marks uint8

const (
	isWhiteout   marks = 1 << iota // was a character device 0:0
	hasWhiteouts                   // a directory with such entries
)

// invalid refuses the tree because of the entry at path.
func invalid(path, text string) error {
	return errs.Newf(errs.Invalid, opWrite, printable("/"+path), text)
}

// printable quotes a path that a terminal should not be sent as it is.
func printable(path string) string {
	if q := strconv.Quote(path); q[1:len(q)-1] != path {
		return q
	}
	return path
}
