// Package inflate reads gzip files (RFC 1952, RFC 1951) about twice as fast as compress/gzip.
//
// Most image layers are gzip, and unpacking them is the longest part of a pull. The speed
// comes from three things: bits are taken from a 64-bit buffer that is filled eight bytes at
// a time without a branch; one table look-up yields up to two literals; and output goes to
// a window large enough that the inner loop checks its bounds once for each symbol. The
// inner loop is in decode.go, the tables in huffman.go.
package inflate

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// The errors of bad data; data that ends early is io.ErrUnexpectedEOF.
var (
	ErrHeader   = errors.New("not a gzip header")
	ErrData     = errors.New("the deflate data is damaged")
	ErrChecksum = errors.New("the checksum or length differs")
)

const (
	history   = 32 << 10 // bytes: how far back a match can reach
	windowLen = 256 << 10
)

type state uint8

const (
	atMember  state = iota // before a gzip header
	atBlock                // before a block's header
	inStored               // in a stored block
	inCoded                // in a block of Huffman codes
	atTrailer              // after the last block
)

// Reader reads the content of a gzip file, all its members.
type Reader struct {
	input
	output
	state   state
	last    bool // this block is the member's last
	members int
	stored  int // bytes left in a stored block
	err     error
	codes   tables
}

// output is what was unpacked: win[given:made] waits to be read, and matches reach back to
// start.
type output struct {
	win                []byte
	start, given, made int
	sum, size          uint32 // of the member
}

// NewReader returns a reader of the gzip file in src. It reads ahead, and to the end of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{
		input:  input{src: src, in: make([]byte, inputLen)},
		output: output{win: make([]byte, windowLen)},
	}
}

func (z *Reader) Read(p []byte) (int, error) {
	for z.given == z.made {
		if z.err != nil {
			return 0, z.err
		}
		z.more()
	}
	n := copy(p, z.win[z.given:z.made])
	z.given += n
	return n, nil
}

// more fills the window, until it is full or nothing more comes.
func (z *Reader) more() {
	if z.made > outLimit {
		drop := z.made - history
		copy(z.win, z.win[drop:z.made])
		z.made = history
		z.given = history
		z.start = max(0, z.start-drop)
	}
	from := z.made
	for z.err == nil && z.made <= outLimit {
		z.err = z.step()
		if z.err == nil && z.state == atTrailer {
			z.tally(from)
			from = z.made
			z.err = z.trailer()
		}
	}
	z.tally(from)
}

// tally counts the output since from into checksum and length.
func (z *output) tally(from int) {
	z.sum = crc32.Update(z.sum, crc32.IEEETable, z.win[from:z.made])
	z.size += uint32(z.made - from)
}

// step does one stretch of work: a header, or as much of a block as there is room for.
func (z *Reader) step() error {
	switch z.state {
	case atMember:
		return z.member()
	case atBlock:
		return z.block()
	case inStored:
		return z.copyStored()
	}
	return z.decode()
}

// member reads a gzip header (RFC 1952, 2.3). After the first member the input may end.
func (z *Reader) member() error {
	z.fill()
	if z.members > 0 && z.at == z.end && z.srcErr != nil {
		return z.srcErr
	}
	b, err := z.bytes(10)
	if err != nil {
		return err
	}
	flags := b[3]
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 || flags&0xe0 != 0 {
		return ErrHeader
	}
	const hasSum, hasExtra, hasName, hasComment = 2, 4, 8, 16
	sum := crc32.ChecksumIEEE(b)
	skip := func(n int, until0 bool) error {
		for ; n > 0 || until0; n-- {
			b, err := z.bytes(1)
			if err != nil {
				return err
			}
			sum = crc32.Update(sum, crc32.IEEETable, b)
			if until0 && b[0] == 0 {
				return nil
			}
		}
		return nil
	}
	if flags&hasExtra != 0 {
		if b, err = z.bytes(2); err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint16(b))
		sum = crc32.Update(sum, crc32.IEEETable, b)
		if err := skip(n, false); err != nil {
			return err
		}
	}
	for _, f := range []byte{hasName, hasComment} {
		if flags&f != 0 {
			if err := skip(0, true); err != nil {
				return err
			}
		}
	}
	if flags&hasSum != 0 {
		if b, err = z.bytes(2); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(b) != uint16(sum) {
			return ErrHeader
		}
	}
	z.members++
	z.state, z.last = atBlock, false
	z.sum, z.size, z.start = 0, 0, z.made
	return nil
}

// trailer compares checksum and length (RFC 1952, 2.3.1).
func (z *Reader) trailer() error {
	z.align()
	b, err := z.bytes(8)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != z.sum || binary.LittleEndian.Uint32(b[4:]) != z.size {
		return ErrChecksum
	}
	z.state = atMember
	return nil
}

// block reads a block's header (RFC 1951, 3.2.3).
func (z *Reader) block() error {
	if z.last {
		z.state = atTrailer
		return nil
	}
	z.last = z.take(1) == 1
	switch z.take(2) {
	case 0:
		z.align()
		b, err := z.bytes(4)
		if err != nil {
			return err
		}
		z.stored = int(binary.LittleEndian.Uint16(b))
		if uint16(z.stored) != ^binary.LittleEndian.Uint16(b[2:]) {
			return ErrData
		}
		z.state = inStored
		return nil
	case 1:
		z.codes.fixed()
	case 2:
		if err := z.dynamic(); err != nil {
			return err
		}
	default:
		return ErrData
	}
	if z.overrun() {
		return z.short()
	}
	z.state = inCoded
	return nil
}

func (z *Reader) copyStored() error {
	if z.stored == 0 {
		z.state = atBlock
		return nil
	}
	z.fill()
	n := copy(z.win[z.made:], z.in[z.at:min(z.end, z.at+z.stored)])
	if n == 0 {
		return z.short()
	}
	z.at += n
	z.made += n
	z.stored -= n
	return nil
}
