package erofs

import (
	"crypto/sha256"

	"github.com/cortenhq/corten/internal/tree"
)

// fill writes everything to its place in the image, the superblock last: it holds an
// identifier made from all the rest.
func (b *builder) fill() {
	b.putComposefsHeader()
	var dir dirWriter
	number := uint32(0)
	for i := range b.nodes {
		e, n := &b.entries[i], &b.nodes[i]
		if n.target != int32(i) {
			continue
		}
		number++
		b.putInode(i, number)
		switch {
		case n.kind == tree.Dir:
			putData(b, i, dir.blocks(b, i))
		case n.kind == tree.Symlink:
			putData(b, i, e.Link)
		case n.redirected:
			hole := b.image[n.pos+b.headSize(i):][:n.tail]
			for ; len(hole) > 0; hole = hole[4:] {
				le.PutUint32(hole, nullAddr)
			}
		case n.kind == tree.Regular:
			putData(b, i, e.Inline)
		}
	}
	at := b.shared
	for i := range b.attrs {
		if a := &b.attrs[i]; a.uses > 1 {
			a.put(b.image[at:])
			at += int64(a.size())
		}
	}
	b.putSuperblock()
}

func (b *builder) putComposefsHeader() {
	le.PutUint32(b.image[0:], composefsMagic)
	le.PutUint32(b.image[4:], composefsVersion)
	if b.acls {
		le.PutUint32(b.image[8:], composefsACL)
	}
	le.PutUint32(b.image[12:], composefsFormat)
}

// putSuperblock writes the superblock with a UUID (RFC 9562, version 8) derived from the
// image. An upper layer refers to its lower files by the UUID of their file system:
// overlayfs must not take two images for one, or an image for its successor.
func (b *builder) putSuperblock() {
	s := superblock{
		rootNID:    uint16(b.nodes[0].pos / slotSize),
		inodes:     uint64(b.inodes),
		epoch:      b.epoch,
		blocks:     uint32(len(b.image) / BlockSize),
		xattrBlock: uint32(b.shared / BlockSize),
	}
	if b.chunked {
		s.incompat = incompatChunked
	}
	s.put(b.image)
	sum := sha256.Sum256(b.image)
	copy(s.uuid[:], sum[:])
	s.uuid[6] = s.uuid[6]&0x0f | 0x80
	s.uuid[8] = s.uuid[8]&0x3f | 0x80
	s.put(b.image)
}

// putInode writes inode i and its attributes.
func (b *builder) putInode(i int, number uint32) {
	e, n := &b.entries[i], &b.nodes[i]
	mode := uint16(n.kind.Mode())
	d := inode{
		layout: flatPlain,
		xattrs: n.xattrs,
		mode:   mode | e.Mode,
		nlink:  n.nlink,
		size:   n.size,
		union:  n.block,
		number: number,
		uid:    e.UID,
		gid:    e.GID,
		mtime:  stamp{e.MTime, e.NSec},
	}
	switch {
	case n.redirected:
		chunkBits, _ := chunking(e.Size)
		d.layout, d.union = chunkBased, uint32(chunkBits-blockBits)
	case n.kind == tree.Block, e.Type == tree.Char && n.kind == tree.Char:
		d.union = deviceNumber(e.Major, e.Minor)
	case n.tail > 0:
		d.layout = flatInline
	}
	d.put(b.image[n.pos:], b.compact(i))
	b.putXattrs(i, b.image[n.pos+b.headSize(i)-int64(n.xattrs):])
}

// putData writes the data of inode i: to its blocks, and what they do not hold behind the
// inode.
func putData[T string | []byte](b *builder, i int, data T) {
	n := &b.nodes[i]
	inBlocks := len(data) - int(n.tail)
	copy(b.image[int64(n.block)*BlockSize:], data[:inBlocks])
	copy(b.image[n.pos+b.headSize(i):], data[inBlocks:])
}

// dirWriter makes the data of directories; its memory serves one after the other.
type dirWriter struct {
	data  []byte
	names []string // of the current block
	nodes []int32
}

// blocks is the data of directory d: in each block first the entries, then their names.
func (w *dirWriter) blocks(b *builder, d int) []byte {
	w.data = w.data[:0]
	used := 0
	for name, node := range b.dirents(d) {
		need := direntSize + len(name)
		if used+need > BlockSize {
			w.flush(b)
			for len(w.data)%BlockSize != 0 {
				w.data = append(w.data, 0)
			}
			used = 0
		}
		used += need
		w.names = append(w.names, name)
		w.nodes = append(w.nodes, node)
	}
	w.flush(b)
	return w.data
}

// flush appends the current block, without padding.
func (w *dirWriter) flush(b *builder) {
	nameOffset := direntSize * len(w.names)
	for k, name := range w.names {
		n := &b.nodes[w.nodes[k]]
		fileType := direntType(n.kind)
		w.data = le.AppendUint64(w.data, uint64(b.nodes[n.target].pos/slotSize))
		w.data = le.AppendUint16(w.data, uint16(nameOffset))
		w.data = append(w.data, fileType, 0)
		nameOffset += len(name)
	}
	for _, name := range w.names {
		w.data = append(w.data, name...)
	}
	w.names, w.nodes = w.names[:0], w.nodes[:0]
}
