// Package tree is the words for file systems as lists of entries: what one image layer
// changes (a layer index) and what the layers come to together (a tree).
//
// A layer index is made once, when a layer arrives, and stored. Indexes are merged, lower
// to upper, into a tree; a tree is written as an EROFS image or unpacked as directories.
// Content is not here: a regular file is either inline bytes or the name of an object.
package tree

import (
	"github.com/cortenhq/corten/internal/oci"
)

// Type is the kind of a file, with the meaning of st_mode's S_IFMT.
type Type uint8

// File types, and the two marks that only a layer index has.
const (
	Invalid  Type = iota
	Dir           // a directory
	Regular       // a regular file: Inline or Object holds its bytes
	Symlink       // Link is the target, as written
	Hardlink      // Link is another path, in canonical form; see Entry
	Char          // a character device: Major, Minor
	Block         // a block device: Major, Minor
	Fifo          // a named pipe
	Socket        // a socket
	Whiteout      // layer index only: the path and all below it is gone (tar ".wh.NAME")
)

// Mode is the S_IFMT bits of st_mode, inode(7): the same on all machines. Marks have none.
func (t Type) Mode() uint32 {
	switch t {
	case Fifo:
		return 0o010000
	case Char:
		return 0o020000
	case Dir:
		return 0o040000
	case Block:
		return 0o060000
	case Regular:
		return 0o100000
	case Symlink:
		return 0o120000
	case Socket:
		return 0o140000
	}
	return 0
}

// Entry is one path of a layer index or tree.
//
// Path is canonical: relative to the root, components separated by one "/", no ".", "..",
// empty component or NUL; the root itself is "". Bytes are kept as they came (no Unicode
// normalisation).
//
// A Hardlink has only a Path and a Link; all else is that of the file it links to. In a
// layer index that file may be another entry, itself a Hardlink even, or be missing: then
// it is in a lower layer, as in a tar of only what changed. Merge finds it. In a tree the
// first name of a file, in the order of Compare, is the file and its other names are
// Hardlinks to that name.
//
// A Whiteout has only a Path. An Opaque one, in a layer that empties a directory without
// saying anything else of it, stands for the directory's old content alone: the directory
// stays, and the layer may have entries below it.
type Entry struct {
	Path   string
	Type   Type
	Opaque bool   // layer index, Dir, Whiteout: lower layers' content of this directory is gone (".wh..wh..opq")
	Mode   uint16 // permission, set-id and sticky bits: st_mode & 07777
	UID    uint32
	GID    uint32
	MTime  int64 // seconds since 1970
	NSec   uint32
	Size   int64      // Regular: bytes, also of a sparse file
	Object oci.Digest // Regular: the object's name; "" means Inline (or empty)
	Inline []byte     // Regular: the bytes, at most InlineMax
	Link   string     // Symlink, Hardlink
	Major  uint32
	Minor  uint32
	Xattrs []Xattr // sorted by name
}

// Xattr is one extended attribute, with its full name ("security.capability").
type Xattr struct {
	Name  string
	Value []byte
}

// InlineMax is how many bytes a file may have to be kept in the index and tree itself and
// not as an object.
const InlineMax = 256

// Index is the entries of one layer, sorted by Compare, each path once. Parent directories
// need not be there; nothing is below an entry that is not a directory.
type Index struct {
	DiffID  oci.Digest // of the uncompressed tar
	Size    int64      // uncompressed tar, bytes
	Entries []Entry
}

// Tree is a complete file system: sorted by Compare, no Whiteout, no Opaque, every parent
// directory present (the root is entry 0), every Hardlink's target an earlier entry of the
// same tree that is neither a Dir nor a Hardlink.
type Tree struct {
	Entries []Entry
}
