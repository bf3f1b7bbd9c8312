package inflate

import (
	"encoding/binary"
	"io"
)

const (
	inputLen = 128 << 10 // bytes
	inputPad = 64        // bytes: zeros after the end of the input, for the inner loop to run into
)

// input is the packed data, by bits and bytes. in[at:end] is unread but for the bits in
// acc. When src has ended, zeros follow up to lim, which is else end.
type input struct {
	src          io.Reader
	srcErr       error // why src has no more, io.EOF at its end
	in           []byte
	at, end, lim int
	acc          uint64 // the next bits, lowest first
	bits         uint   // how many of acc are counted in; those above are right, or zero
}

// short is the error for input that ends too early.
func (z *input) short() error {
	if z.srcErr != nil && z.srcErr != io.EOF {
		return z.srcErr
	}
	return io.ErrUnexpectedEOF
}

// fill makes at least inputPad bytes available, or all that are left with the padding.
func (z *input) fill() {
	if z.srcErr != nil || z.end-z.at >= inputPad {
		return
	}
	kept := min(z.at, 8) // what acc holds, which align gives back
	z.end = copy(z.in, z.in[z.at-kept:z.end])
	z.at = kept
	for idle := 0; z.end-z.at < inputPad && z.srcErr == nil; idle++ {
		n, err := z.src.Read(z.in[z.end : len(z.in)-inputPad])
		z.end += n
		if n > 0 {
			idle = 0
		} else if err == nil && idle > 100 {
			err = io.ErrNoProgress
		}
		z.srcErr = err
	}
	z.lim = z.end
	if z.srcErr != nil {
		clear(z.in[z.end : z.end+inputPad])
		z.lim += inputPad
	}
}

// ensure sees to it that acc holds n bits, at most 56. Past the end of the input they are
// zeros, which overrun tells.
func (z *input) ensure(n uint) {
	if z.bits >= n {
		return
	}
	if z.lim-z.at < 8 {
		z.fill()
	}
	if z.lim-z.at < 8 {
		z.at, z.bits = z.lim+8, 56 // beyond all doubt
		return
	}
	z.acc |= binary.LittleEndian.Uint64(z.in[z.at:]) << (z.bits & 63)
	z.at += int(63-z.bits) >> 3
	z.bits |= 56
}

// take returns the next n bits, at most 32.
func (z *input) take(n uint) uint32 {
	z.ensure(n)
	v := uint32(z.acc & (1<<n - 1))
	z.acc >>= n
	z.bits -= n
	return v
}

// overrun reports whether more was taken than the input had.
func (z *input) overrun() bool { return z.at-int(z.bits>>3) > z.end }

// align drops the bits up to the next byte and gives whole bytes in acc back.
func (z *input) align() {
	z.at -= int(z.bits >> 3)
	z.acc, z.bits = 0, 0
}

// bytes returns the next n whole bytes, fewer than inputPad; the reader must be aligned.
func (z *input) bytes(n int) ([]byte, error) {
	if z.end-z.at < n {
		z.fill()
	}
	if z.end-z.at < n {
		return nil, z.short()
	}
	b := z.in[z.at : z.at+n]
	z.at += n
	return b, nil
}
