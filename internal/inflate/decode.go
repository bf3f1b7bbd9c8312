package inflate

import "encoding/binary"

const (
	// What one turn of the loop in decode takes and makes at most, with what it reads and
	// writes beyond: three refills of eight bytes, six literals and a match of 258 in steps
	// of 16.
	turnInput  = 32
	turnOutput = 320

	outLimit = windowLen - turnOutput
	litMask  = 1<<litBits - 1
	distMask = 1<<distBits - 1
)

// decode goes on in a block of Huffman codes until it ends, the window is full, or the
// input has to be filled. At the top of a turn acc has at least 56 bits and e is the table
// entry for the first of them.
func (z *Reader) decode() error {
	z.fill()
	in, win := z.in[:z.lim], z.win
	lit, dist := &z.codes.lit, &z.codes.dist
	made, inLimit := z.made, len(in)-turnInput
	var err error

	acc, bits, at := refill(in, z.acc, z.bits, z.at)
	e := lit[acc&litMask]
	for at <= inLimit && made <= outLimit {
		if e&litFlag != 0 {
			// Three entries of literals take at most 33 bits, and leave the 11 to index by.
			acc, bits, made = literals(win, e, acc, bits, made)
			if e = lit[acc&litMask]; e&litFlag != 0 {
				acc, bits, made = literals(win, e, acc, bits, made)
				if e = lit[acc&litMask]; e&litFlag != 0 {
					acc, bits, made = literals(win, e, acc, bits, made)
					acc, bits, at = refill(in, acc, bits, at)
					e = lit[acc&litMask]
					continue
				}
			}
			acc, bits, at = refill(in, acc, bits, at)
		}
		if e&oddFlag != 0 {
			if e = further(lit[:], e, litBits, acc); e&litFlag != 0 {
				continue // with 15 bits at most, which the 56 have room for
			}
			if e&endFlag != 0 {
				acc, bits = acc>>(e&15), bits-uint(e&15)
				z.state = atBlock
				break
			}
		}
		// A length and a distance take at most 20 and 28 bits of the 56.
		length := int(e>>16) + int(acc&(1<<(e&63)-1)>>(e>>8&63))
		acc, bits = acc>>(e&63), bits-uint(e)
		d := dist[acc&distMask]
		if d&oddFlag != 0 {
			d = further(dist[:], d, distBits, acc)
		}
		from := made - int(d>>16) - int(acc&(1<<(d&63)-1)>>(d>>8&63))
		acc, bits = acc>>(d&63), bits-uint(d)
		if (e|d)&oddFlag != 0 || from < z.start {
			err = ErrData
			break
		}
		acc, bits, at = refill(in, acc, bits, at)
		e = lit[acc&litMask] // the look-up runs while the match is copied
		if made-from < 16 {
			made = repeat(win, from, made, made+length)
			continue
		}
		to := made
		for made += length; ; from += 16 {
			*(*[16]byte)(win[to:]) = *(*[16]byte)(win[from:])
			if to += 16; to >= made {
				break
			}
		}
	}
	z.acc, z.bits, z.at, z.made = acc, bits&63, at, made
	if z.overrun() {
		return z.short()
	}
	return err
}

// refill brings acc up to 56 bits or more. The bits above these are those that the next
// refill puts there again, so that it need not clear them. Only the low six bits of the
// count mean anything: what is above comes from taking whole entries off it.
func refill(in []byte, acc uint64, bits uint, at int) (uint64, uint, int) {
	acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
	return acc, bits | 56, at + int(^bits>>3&7)
}

// literals writes one literal or two, whichever e has: the second byte is written in any
// case, and not counted.
func literals(win []byte, e uint32, acc uint64, bits uint, made int) (uint64, uint, int) {
	binary.LittleEndian.PutUint16(win[made:made+2], uint16(e>>8))
	return acc >> (e & 63), bits - uint(e), made + int(e>>30) - 1
}

// further looks up a code that is longer than the index of a table, whose entry for its
// first bits is e; an entry that leads nowhere stays.
func further(table []uint32, e uint32, index int, acc uint64) uint32 {
	if e>>16 == 0 {
		return e
	}
	return table[e>>16+uint32(acc>>index)&(1<<(maxBits-index)-1)]
}

// repeat copies a match that overlaps itself closely.
func repeat(win []byte, from, made, end int) int {
	if made-from == 1 {
		v := uint64(win[from]) * 0x0101010101010101
		for ; made < end; made += 8 {
			binary.LittleEndian.PutUint64(win[made:], v)
		}
		return end
	}
	for made < end { // each time the pattern is twice as long
		made += copy(win[made:end], win[from:made])
	}
	return end
}
