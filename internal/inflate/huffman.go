package inflate

import "math/bits"

// An entry of a decoding table:
//
//	literals   litFlag, the number of bits in 0-7, the first literal in 8-15, a second in
//	           16-23 with pairFlag
//	length     bits of the code in 8-11, of code and extra bits in 0-7, base from 16 on
//	distance   the same
//	others     oddFlag: endFlag for the end of the block; a start from 16 on for a code
//	           longer than the table's index, which is looked up there by the bits that
//	           follow; else no code
const (
	litFlag  = 1 << 31
	pairFlag = 1 << 30
	oddFlag  = 1 << 15
	endFlag  = 1 << 14

	litBits  = 11 // bits that index the literal and length table
	distBits = 9
	maxBits  = 15 // of a code

	// Each subtable has at least two codes, of which there are 288 and 32.
	litSize  = 1<<litBits + 144<<(maxBits-litBits)
	distSize = 1<<distBits + 16<<(maxBits-distBits)

	litSpace  = 8192 // powers of two above: an index masked by it needs no check
	distSpace = 2048
)

var _ [litSpace - litSize]byte
var _ [distSpace - distSize]byte

type tables struct {
	lit     [litSpace]uint32
	dist    [distSpace]uint32
	isFixed bool
}

const (
	maxLits  = 286
	maxDists = 30
	endCode  = 256
)

// lengthCodes and distCodes are base and number of extra bits (RFC 1951, 3.2.5).
func lengthCode(sym int) uint32 {
	if sym == 285 {
		return 258 << 16
	}
	k := sym - 257
	if k < 8 {
		return uint32(k+3) << 16
	}
	extra := k/4 - 1
	return uint32(3+(4+k%4)<<extra)<<16 | uint32(extra)
}

func distCode(sym int) uint32 {
	if sym < 4 {
		return uint32(sym+1) << 16
	}
	extra := sym/2 - 1
	return uint32(1+(2+sym%2)<<extra)<<16 | uint32(extra)
}

// litEntry and distEntry are the table entry of a symbol whose code has n bits.
func litEntry(sym int, n uint) uint32 {
	switch {
	case sym < endCode:
		return litFlag | uint32(sym)<<8 | uint32(n)
	case sym == endCode:
		return oddFlag | endFlag | uint32(n)
	case sym < maxLits:
		return lengthCode(sym) + uint32(n)<<8 + uint32(n)
	}
	return oddFlag
}

func distEntry(sym int, n uint) uint32 {
	if sym < maxDists {
		return distCode(sym) + uint32(n)<<8 + uint32(n)
	}
	return oddFlag
}

// build makes the table for codes of the given lengths, index bits wide, and reports
// whether they are a code: neither too many for their lengths, nor too few, but for a
// single code of one bit or none at all, as others accept it too.
func build(table []uint32, index uint, lens []uint8, entry func(sym int, n uint) uint32) bool {
	var count, next [maxBits + 2]int
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	code, longest := 0, uint(0)
	for n := uint(1); n <= maxBits; n++ {
		code <<= 1
		next[n] = code
		code += count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	if code > 1<<maxBits || code < 1<<maxBits && longest > 1 {
		return false
	}
	for i := range table[:1<<index] {
		table[i] = oddFlag // no code
	}
	free := 1 << index
	for sym, n8 := range lens {
		n := uint(n8)
		if n == 0 {
			continue
		}
		r := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		e := entry(sym, n)
		if n <= index {
			for i := r; i < 1<<index; i += 1 << n {
				table[i] = e
			}
			continue
		}
		at := &table[r&(1<<index-1)]
		if *at == oddFlag {
			*at = oddFlag | uint32(free)<<16
			for i := range 1 << (maxBits - index) {
				table[free+i] = oddFlag
			}
			free += 1 << (maxBits - index)
		}
		for i := r >> index; i < 1<<(maxBits-index); i += 1 << (n - index) {
			table[int(*at>>16)+i] = e
		}
	}
	return true
}

// pair lets an entry stand for two literals where the codes of both fit into the index.
func pair(lit *[litSpace]uint32) {
	// Downwards: the second literal's entry has a smaller index and must not be a pair yet.
	// Where the conditions hold is as good as random, so there is no branch on them.
	for i := 1<<litBits - 1; i >= 0; i-- {
		e := lit[i]
		n := e & 63
		second := lit[i>>n]
		both := n + second&63
		x := e
		if int32(e&second&(both-(litBits+1))) < 0 { // two literals, and both short enough
			x = litFlag | pairFlag | second&0xff00<<8 | e&0xff00 | both
		}
		lit[i] = x
	}
}

// fixed sets the tables of RFC 1951, 3.2.6.
func (t *tables) fixed() {
	if t.isFixed {
		return
	}
	var lens [288]uint8
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	build(t.lit[:], litBits, lens[:], litEntry)
	pair(&t.lit)
	for i := range 32 {
		lens[i] = 5
	}
	build(t.dist[:], distBits, lens[:32], distEntry)
	t.isFixed = true
}

// dynamic reads the tables of a block (RFC 1951, 3.2.7).
func (z *Reader) dynamic() error {
	lits, dists, n := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if lits > maxLits || dists > maxDists {
		return ErrData
	}
	order := [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var lens [maxLits + maxDists]uint8
	for _, i := range order[:n] {
		lens[i] = uint8(z.take(3))
	}
	// The codes of code lengths have up to 7 bits: the distance table serves for them.
	t := &z.codes
	t.isFixed = false
	if !build(t.dist[:], distBits, lens[:19], func(sym int, n uint) uint32 { return uint32(sym)<<16 | uint32(n) }) {
		return ErrData
	}
	clear(lens[:19])
	for i := 0; i < lits+dists; {
		z.ensure(7)
		e := t.dist[z.acc&(1<<distBits-1)]
		if e&oddFlag != 0 {
			return ErrData
		}
		z.take(uint(e & 0xff))
		if e>>16 < 16 {
			lens[i] = uint8(e >> 16)
			i++
			continue
		}
		value, times := uint8(0), 0
		switch e >> 16 {
		case 16:
			if i == 0 {
				return ErrData
			}
			value, times = lens[i-1], 3+int(z.take(2))
		case 17:
			times = 3 + int(z.take(3))
		case 18:
			times = 11 + int(z.take(7))
		}
		if times > lits+dists-i {
			return ErrData
		}
		for ; times > 0; times-- {
			lens[i] = value
			i++
		}
	}
	if lens[endCode] == 0 || !build(t.lit[:], litBits, lens[:lits], litEntry) || !build(t.dist[:], distBits, lens[lits:lits+dists], distEntry) {
		return ErrData
	}
	pair(&t.lit)
	return nil
}
