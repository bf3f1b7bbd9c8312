package erofs

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/tree"
)

// maxTarget is the longest target of a symbolic link: PATH_MAX less the final NUL.
const maxTarget = 4095

// link checks every entry and finds its directory and inode.
func (b *builder) link() error {
	if len(b.entries) == 0 || b.entries[0].Path != "" || b.entries[0].Type != tree.Dir {
		return invalid("", "the tree does not begin with its root directory")
	}
	b.nodes = make([]node, len(b.entries))
	open := int32(0) // the directory that the previous entry is, or is in
	for i := range b.entries {
		e, n := &b.entries[i], &b.nodes[i]
		if i > 0 {
			if tree.Compare(b.entries[i-1].Path, e.Path) >= 0 {
				return invalid(e.Path, "entry out of order or twice in the tree")
			}
			for !below(b.entries[open].Path, e.Path) {
				b.nodes[open].next = int32(i)
				open = b.nodes[open].parent
			}
			if err := checkName(b.entries[open].Path, e.Path); err != nil {
				return err
			}
		}
		kind, err := b.check(e)
		if err != nil {
			return err
		}
		*n = node{parent: open, next: int32(i + 1), target: int32(i), nlink: 1, kind: kind,
			redirected: e.Type == tree.Regular && e.Object != "" && e.Size > 0}
		if e.Type == tree.Char && kind == tree.Regular {
			n.marks = isWhiteout
			b.nodes[open].marks |= hasWhiteouts
		}
		if kind == tree.Dir {
			n.nlink = 2 // its own "." and its name, or for the root ".."
			if i > 0 {
				b.nodes[open].nlink++
			}
			open = int32(i)
		}
	}
	for ; open > 0; open = b.nodes[open].parent {
		b.nodes[open].next = int32(len(b.nodes))
	}
	b.nodes[0].next = int32(len(b.nodes))
	return b.linkHard()
}

// linkHard leads every hard link to its inode, which may come before or after it.
func (b *builder) linkHard() error {
	for i := range b.entries {
		e, n := &b.entries[i], &b.nodes[i]
		if e.Type != tree.Hardlink {
			b.inodes++
			continue
		}
		t, found := slices.BinarySearchFunc(b.entries, e.Link, func(e tree.Entry, path string) int {
			return tree.Compare(e.Path, path)
		})
		if !found {
			return invalid(e.Path, "hard link to "+printable("/"+e.Link)+", which is not in the tree")
		}
		switch b.entries[t].Type {
		case tree.Dir, tree.Hardlink, tree.Whiteout:
			return invalid(e.Path, "hard link to "+printable("/"+e.Link)+
				", which is not a file, symbolic link or device")
		}
		target := &b.nodes[t]
		n.target, n.kind = int32(t), target.kind
		target.nlink++
		if target.marks&isWhiteout != 0 {
			b.nodes[n.parent].marks |= hasWhiteouts
		}
	}
	return nil
}

// below reports whether path is somewhere in dir.
func below(dir, path string) bool {
	return dir == "" || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// nameIn is path, which is below dir, as seen from dir.
func nameIn(dir, path string) string {
	if dir == "" {
		return path
	}
	return path[len(dir)+1:]
}

// checkName checks that path is directly in dir and its name one that Linux allows.
func checkName(dir, path string) error {
	name := nameIn(dir, path)
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent := path[:len(path)-len(name)+i]
		return invalid(path, "its directory "+printable("/"+parent)+" is not in the tree, or is no directory")
	}
	switch {
	case name == "" || name == "." || name == "..":
		return invalid(path, "path not in canonical form")
	case len(name) > maxName:
		return invalid(path, "name longer than "+strconv.Itoa(maxName)+" bytes")
	case strings.IndexByte(name, 0) >= 0:
		return invalid(path, "name with a NUL byte")
	}
	return nil
}

// check checks what an entry says of itself and tells the kind it is written as.
func (b *builder) check(e *tree.Entry) (tree.Type, error) {
	switch {
	case e.Mode&^0o7777 != 0:
		return 0, invalid(e.Path, "mode with more than permission bits")
	case e.UID == math.MaxUint32 || e.GID == math.MaxUint32:
		return 0, invalid(e.Path, "owner 4294967295, which Linux keeps for nobody at all")
	case e.NSec >= 1e9:
		return 0, invalid(e.Path, "modification time with more than a second of nanoseconds")
	case e.Opaque && (!b.opt.Overlay || e.Type != tree.Dir):
		return 0, invalid(e.Path, "opaque mark outside an overlay layer's directories")
	}
	switch e.Type {
	case tree.Dir, tree.Fifo, tree.Socket, tree.Hardlink:
		return e.Type, nil
	case tree.Regular:
		return e.Type, checkFile(e)
	case tree.Symlink:
		if e.Link == "" || len(e.Link) > maxTarget || strings.IndexByte(e.Link, 0) >= 0 {
			return 0, invalid(e.Path, "symbolic link with a target that is empty, longer than "+
				strconv.Itoa(maxTarget)+" bytes or has a NUL byte")
		}
		return e.Type, nil
	case tree.Char, tree.Block:
		if e.Major > maxMajor || e.Minor > maxMinor {
			return 0, invalid(e.Path, "device number too large for Linux")
		}
		if e.Type == tree.Char && e.Major == 0 && e.Minor == 0 {
			return tree.Regular, nil
		}
		return e.Type, nil
	case tree.Whiteout:
		if !b.opt.Overlay {
			return 0, invalid(e.Path, "whiteout in a complete file system")
		}
		return tree.Char, nil
	}
	return 0, invalid(e.Path, "entry of unknown type "+strconv.Itoa(int(e.Type)))
}

// checkFile checks that a regular file has its bytes inline or in a nameable object.
func checkFile(e *tree.Entry) error {
	if e.Object == "" {
		if e.Size != int64(len(e.Inline)) {
			return invalid(e.Path, "size "+strconv.FormatInt(e.Size, 10)+" but "+
				strconv.Itoa(len(e.Inline))+" bytes of content")
		}
		return nil
	}
	switch {
	case len(e.Inline) > 0:
		return invalid(e.Path, "file with content of its own and an object")
	case !e.Object.Valid() || e.Object.Algorithm() != "sha256":
		return invalid(e.Path, "object not named by a sha256 digest")
	case e.Size < 0 || e.Size > maxChunks<<maxChunkBits:
		return invalid(e.Path, "file size negative or over 8 PiB")
	}
	return nil
}
