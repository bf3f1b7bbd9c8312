package erofs

import (
	"iter"
	"math"

	"github.com/cortenhq/corten/internal/tree"
)

// The image, in this order:
//
//	0     composefs' header, superblock
//	1152  inodes, in the order of the tree, each with its attributes and, where it fits,
//	      the end of its data; the root is the first, so that its nid fits 16 bits
//	...   shared attributes
//	...   from the next block on: directories' and files' data that is not in the inodes

// layout gives everything its place.
func (b *builder) layout() error {
	b.epoch = b.commonTime()
	pos := int64(superOffset + superSize)
	heads := pos // where the last inode ends, without data
	for i := range b.nodes {
		n := &b.nodes[i]
		if n.target != int32(i) {
			continue
		}
		if _, n.xattrs = b.xattrsOf(n); n.xattrs > maxXattrs {
			return invalid(b.entries[i].Path, "extended attributes larger than 256 KiB in total")
		}
		b.place(i, alignUp(pos, slotSize))
		pos = n.pos + b.headSize(i) + int64(n.tail)
		heads = n.pos + b.headSize(i)
	}
	b.shared = alignUp(pos, slotSize)
	pos = b.shared
	for i := range b.attrs {
		if a := &b.attrs[i]; a.uses > 1 {
			a.id = uint32((pos - b.shared&^(BlockSize-1)) / 4)
			pos += int64(a.size())
		}
	}
	pos = alignUp(pos, BlockSize)
	for i := range b.nodes {
		if n := &b.nodes[i]; n.blocks > 0 {
			n.block = uint32(pos / BlockSize)
			pos += int64(n.blocks) * BlockSize
		}
	}
	// fsck.erofs (erofs-utils 1.5) reads a header of attributes behind every inode, also behind
	// one that has none: let there be something to read.
	const attributesHead = 12
	b.image = make([]byte, alignUp(max(pos, heads+attributesHead), BlockSize))
	return nil
}

// place puts inode i at pos, which is free, or a little after it: the part of the data
// that follows the inode must not cross a block's end.
func (b *builder) place(i int, pos int64) {
	e, n := &b.entries[i], &b.nodes[i]
	n.pos = pos
	switch {
	case n.kind == tree.Dir:
		n.size = b.dirSize(i)
	case n.kind == tree.Symlink:
		n.size = int64(len(e.Link))
	case n.redirected:
		n.size = e.Size
		_, chunks := chunking(e.Size)
		n.tail = uint32(4 * chunks) // read one by one: may cross
		b.chunked = true
		return
	case n.kind == tree.Regular:
		n.size = int64(len(e.Inline))
	}
	head, tail := b.headSize(i), n.size%BlockSize
	n.blocks = uint32(n.size / BlockSize)
	if n.kind == tree.Symlink {
		// The kernel reads a target at once only if it shares a block with its inode.
		if head+tail > BlockSize {
			n.blocks++
			return
		}
		head, tail = 0, head+tail
	}
	// More than half a block of tail would waste more in front of the inode than it saves.
	if n.kind != tree.Symlink && tail > BlockSize/2 {
		n.blocks++
		return
	}
	if start := pos + head; tail > 0 && start/BlockSize != (start+tail-1)/BlockSize {
		n.pos = alignUp(alignUp(start, BlockSize)-head, slotSize)
	}
	n.tail = uint32(n.size % BlockSize)
}

// headSize is the size of inode i with its attributes, bytes.
func (b *builder) headSize(i int) int64 {
	if b.compact(i) {
		return compactSize + int64(b.nodes[i].xattrs)
	}
	return extendedSize + int64(b.nodes[i].xattrs)
}

// compact reports whether inode i fits the short form.
func (b *builder) compact(i int) bool {
	e, n := &b.entries[i], &b.nodes[i]
	return stamp{e.MTime, e.NSec} == b.epoch && n.size <= math.MaxUint32 &&
		e.UID <= math.MaxUint16 && e.GID <= math.MaxUint16 && n.nlink <= math.MaxUint16
}

// commonTime is the modification time that most inodes have, the earliest of several.
func (b *builder) commonTime() (best stamp) {
	count := make(map[stamp]int)
	for i := range b.entries {
		if e := &b.entries[i]; e.Type != tree.Hardlink {
			count[stamp{e.MTime, e.NSec}]++
		}
	}
	most := 0
	for s, n := range count {
		earlier := s.sec < best.sec || s.sec == best.sec && s.nsec < best.nsec
		if n > most || n == most && earlier {
			best, most = s, n
		}
	}
	return best
}

// dirents goes through the names in directory d, in the byte order that look-ups need:
// "." and ".." are no exception and have "-" before them.
func (b *builder) dirents(d int) iter.Seq2[string, int32] {
	return func(yield func(string, int32) bool) {
		dots := [...]struct {
			name string
			node int32
		}{{".", int32(d)}, {"..", b.nodes[d].parent}}
		k := 0
		for c := int32(d + 1); c < b.nodes[d].next; c = b.nodes[c].next {
			name := nameIn(b.entries[d].Path, b.entries[c].Path)
			for ; k < len(dots) && dots[k].name < name; k++ {
				if !yield(dots[k].name, dots[k].node) {
					return
				}
			}
			if !yield(name, c) {
				return
			}
		}
		for ; k < len(dots); k++ {
			if !yield(dots[k].name, dots[k].node) {
				return
			}
		}
	}
}

// dirSize is the size of directory d: whole blocks, none with half an entry, and the used
// part of the last.
func (b *builder) dirSize(d int) int64 {
	size, used := int64(0), 0
	for name := range b.dirents(d) {
		need := direntSize + len(name)
		if used+need > BlockSize {
			size += BlockSize
			used = 0
		}
		used += need
	}
	return size + int64(used)
}
