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
	acc, bits, at, made := z.acc, z.bits, z.at, z.made
	inLimit := len(in) - turnInput
	var err error

	acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
	at += int(^bits >> 3 & 7)
	bits |= 56
	e := lit[acc&litMask]
	for at <= inLimit && made <= outLimit {
		if e&litFlag != 0 {
			// Three entries of literals take at most 33 bits, and leave the 11 to index by.
			binary.LittleEndian.PutUint16(win[made:made+2], uint16(e>>8))
			made += int(e>>30) - 1
			acc >>= e & 63
			bits -= uint(e)
			e = lit[acc&litMask]
			if e&litFlag != 0 {
				binary.LittleEndian.PutUint16(win[made:made+2], uint16(e>>8))
				made += int(e>>30) - 1
				acc >>= e & 63
				bits -= uint(e)
				e = lit[acc&litMask]
				if e&litFlag != 0 {
					binary.LittleEndian.PutUint16(win[made:made+2], uint16(e>>8))
					made += int(e>>30) - 1
					acc >>= e & 63
					bits -= uint(e)
					acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
					at += int(^bits >> 3 & 7)
					bits |= 56
					e = lit[acc&litMask]
					continue
				}
			}
			acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
			at += int(^bits >> 3 & 7)
			bits |= 56
		}
		if e&oddFlag != 0 {
			if e&endFlag == 0 && e>>16 != 0 {
				e = lit[(e>>16+uint32(acc>>litBits)&(1<<(maxBits-litBits)-1))&(litSpace-1)]
			}
			if e&litFlag != 0 {
				win[made] = byte(e >> 8)
				made++
				acc >>= e & 63
				bits -= uint(e)
				acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
				at += int(^bits >> 3 & 7)
				bits |= 56
				e = lit[acc&litMask]
				continue
			}
			if e&oddFlag != 0 {
				if e&endFlag == 0 {
					err = ErrData
				} else {
					acc >>= e & 63
					bits -= uint(e)
					z.state = atBlock
				}
				break
			}
		}
		// A length and a distance take at most 20 and 28 bits of the 56.
		length := int(e>>16) + int(acc&(1<<(e&63)-1)>>(e>>8&63))
		acc >>= e & 63
		bits -= uint(e)
		d := dist[acc&distMask]
		if d&oddFlag != 0 {
			if d>>16 != 0 {
				d = dist[(d>>16+uint32(acc>>distBits)&(1<<(maxBits-distBits)-1))&(distSpace-1)]
			}
			if d&oddFlag != 0 {
				err = ErrData
				break
			}
		}
		from := made - int(d>>16) - int(acc&(1<<(d&63)-1)>>(d>>8&63))
		acc >>= d & 63
		bits -= uint(d)
		if from < z.start {
			err = ErrData
			break
		}
		acc |= binary.LittleEndian.Uint64(in[at:at+8]) << (bits & 63)
		at += int(^bits >> 3 & 7)
		bits |= 56
		e = lit[acc&litMask] // the look-up runs while the match is copied

		if made-from >= 16 {
			to := made
			made += length
			for {
				*(*[16]byte)(win[to:]) = *(*[16]byte)(win[from:])
				if to += 16; to >= made {
					break
				}
				from += 16
			}
			continue
		}
		end := made + length
		if made-from == 1 {
			v := uint64(win[from]) * 0x0101010101010101
			for ; made < end; made += 8 {
				binary.LittleEndian.PutUint64(win[made:], v)
			}
			made = end
			continue
		}
		for made < end { // each time the pattern is twice as long
			made += copy(win[made:end], win[from:made])
		}
	}
	z.acc, z.bits, z.at, z.made = acc, bits&63, at, made
	if z.overrun() {
		return z.short()
	}
	return err
}
