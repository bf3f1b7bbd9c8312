package erofs

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/cortenhq/corten/internal/tree"
)

// The on-disk format, after Documentation/filesystems/erofs.rst and the field order of the
// kernel's erofs_fs.h. All numbers are little-endian.

// BlockSize is the block size of an image, bytes.
const BlockSize = 1 << blockBits

const (
	blockBits = 12

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2

	slotSize     = 32 // an inode's number (nid) is its offset in units of this
	compactSize  = 32
	extendedSize = 64

	direntSize = 12
	maxName    = 255

	xattrHeaderSize  = 12 // before an inode's attributes
	xattrEntrySize   = 4  // before an attribute's name
	maxXattrName     = 255
	maxXattrValue    = math.MaxUint16
	maxXattrs        = xattrHeaderSize + 4*(math.MaxUint16-1) // bytes in one inode
	maxSharedXattrs  = math.MaxUint8                          // references in one inode
	xattrFilterSeed  = 0x25BBE08F
	xattrFilterWidth = 32 // bits

	maxChunkBits = blockBits + 31
	maxChunks    = 1024
	nullAddr     = math.MaxUint32 // the address of a hole
)

// Superblock features.
const (
	compatChecksum    = 0x1 // crc32c of the first block from the superblock on
	compatMTime       = 0x2 // the times are those of modification
	compatXattrFilter = 0x4 // attribute headers have a name filter (used from Linux 6.6)
	incompatChunked   = 0x4 // some file is chunk-based (Linux 5.15)
)

// Data layouts of an inode.
const (
	flatPlain  = 0 // all data in blocks of its own
	flatInline = 2 // the last, partial block follows the inode
	chunkBased = 4 // chunk addresses follow the inode
)

// The first bytes of an image tell composefs' tools what it is; EROFS leaves them free.
const (
	composefsMagic   = 0xd078629a
	composefsVersion = 1 // of its header
	composefsACL     = 1 // flag: some file has a POSIX ACL
	composefsFormat  = 1 // whiteouts are escaped with overlay.opaque=x on their directory
)

// le puts numbers into an image.
var le = binary.LittleEndian

func alignUp[T int | int64 | uint32](n, to T) T { return (n + to - 1) / to * to }

// stamp is a modification time.
type stamp struct {
	sec  int64
	nsec uint32
}

// direntType is the type that a directory entry gives a file.
func direntType(kind tree.Type) byte {
	switch kind {
	case tree.Regular:
		return 1
	case tree.Dir:
		return 2
	case tree.Char:
		return 3
	case tree.Block:
		return 4
	case tree.Fifo:
		return 5
	case tree.Socket:
		return 6
	case tree.Symlink:
		return 7
	}
	return 0
}

// Device numbers have 12 and 20 bits in Linux.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// deviceNumber encodes as the kernel's new_encode_dev.
func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// chunking gives the chunk size, as a power of two, and the number of chunks of a hole:
// one chunk if possible.
func chunking(size int64) (chunkBits int, chunks int64) {
	for chunkBits = blockBits; chunkBits < maxChunkBits && size > 1<<chunkBits; {
		chunkBits++
	}
	return chunkBits, (size + 1<<chunkBits - 1) >> chunkBits
}

// superblock is the part of it that differs from image to image.
type superblock struct {
	rootNID    uint16
	inodes     uint64
	epoch      stamp
	blocks     uint32
	xattrBlock uint32
	uuid       [16]byte
	incompat   uint32
}

// put writes s, and its checksum, into the first block of an image.
func (s *superblock) put(block []byte) {
	p := block[superOffset:]
	le.PutUint32(p[0:], superMagic)
	le.PutUint32(p[4:], 0)
	le.PutUint32(p[8:], compatChecksum|compatMTime|compatXattrFilter)
	p[12] = blockBits
	le.PutUint16(p[14:], s.rootNID)
	le.PutUint64(p[16:], s.inodes)
	le.PutUint64(p[24:], uint64(s.epoch.sec))
	le.PutUint32(p[32:], s.epoch.nsec)
	le.PutUint32(p[36:], s.blocks)
	le.PutUint32(p[44:], s.xattrBlock)
	copy(p[48:], s.uuid[:])
	le.PutUint32(p[80:], s.incompat)
	// The kernel's crc32c starts from ~0 and leaves out the inversion at the end.
	sum := ^crc32.Checksum(p[:BlockSize-superOffset], crc32.MakeTable(crc32.Castagnoli))
	le.PutUint32(p[4:], sum)
}

// inode is an inode in either form.
type inode struct {
	layout uint16
	xattrs uint32 // bytes
	mode   uint16
	nlink  uint32
	size   int64
	union  uint32 // first block, device number or chunk format, as the layout has it
	number uint32 // only for 32-bit programs: the kernel takes the nid
	uid    uint32
	gid    uint32
	mtime  stamp
}

// put writes i in its short form, which has no time of its own, or in its long form.
func (i *inode) put(p []byte, compact bool) {
	icount := uint16(0)
	if i.xattrs > 0 {
		icount = uint16((i.xattrs-xattrHeaderSize)/4 + 1)
	}
	le.PutUint16(p[2:], icount)
	le.PutUint16(p[4:], i.mode)
	le.PutUint32(p[16:], i.union)
	le.PutUint32(p[20:], i.number)
	if compact {
		le.PutUint16(p[0:], i.layout<<1)
		le.PutUint16(p[6:], uint16(i.nlink))
		le.PutUint32(p[8:], uint32(i.size))
		le.PutUint16(p[24:], uint16(i.uid))
		le.PutUint16(p[26:], uint16(i.gid))
		return
	}
	le.PutUint16(p[0:], i.layout<<1|1)
	le.PutUint64(p[8:], uint64(i.size))
	le.PutUint32(p[24:], i.uid)
	le.PutUint32(p[28:], i.gid)
	le.PutUint64(p[32:], uint64(i.mtime.sec))
	le.PutUint32(p[40:], i.mtime.nsec)
	le.PutUint32(p[44:], i.nlink)
}
