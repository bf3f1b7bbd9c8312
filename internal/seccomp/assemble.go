package seccomp

import "github.com/cortenhq/corten/internal/spec"

// The instructions in use (linux/bpf_common.h). With these but opLoad of arguments, Linux
// 5.11 and later finds out at attach time which numbers are always allowed, and does not
// run the program for them again.
const (
	opLoad = 0x20 // BPF_LD | BPF_W | BPF_ABS: A = the word at K
	opAnd  = 0x54 // BPF_ALU | BPF_AND | BPF_K
	opJA   = 0x05 // BPF_JMP | BPF_JA: skip K instructions
	opJEQ  = 0x15
	opJGT  = 0x25
	opJGE  = 0x35
	opJSET = 0x45 // A & K is not 0
	opRet  = 0x06
)

// Offsets in struct seccomp_data. An argument has 64 bits, the lower half first: both
// kinds of hosts are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// maxSkip is how far a conditional jump reaches.
const maxSkip = 255

// label is a place in the program, counted from its end.
type label int

// assembler writes a program from its end to its beginning. Classic BPF jumps forward
// only: what a jump leads to is already there, and its distance known, when it is written.
type assembler struct {
	code []Insn // in reverse
	rets []label

	// Of the section being written:
	c      *compiler
	wide   bool
	chains []label // where each chain of c begins; -1: not written yet
}

// begin starts the section of one audit value. Chains are compared with the width of its
// arguments, so they are written anew for each.
func (a *assembler) begin(c *compiler, wide bool) {
	a.c, a.wide = c, wide
	a.chains = make([]label, len(c.chains))
	for i := range a.chains {
		a.chains[i] = -1
	}
}

func (a *assembler) put(in Insn) label {
	a.code = append(a.code, in)
	return label(len(a.code) - 1)
}

// ret returns a place that ends the program with k.
func (a *assembler) ret(k uint32) label {
	for _, at := range a.rets {
		if a.code[at].K == k {
			return at
		}
	}
	at := a.put(Insn{Code: opRet, K: k})
	a.rets = append(a.rets, at)
	return at
}

// load puts a load before next.
func (a *assembler) load(offset uint32, next label) label {
	if last := label(len(a.code) - 1); next != last {
		a.put(Insn{Code: opJA, K: uint32(last - next)})
	}
	return a.put(Insn{Code: opLoad, K: offset})
}

// jump puts a test: to t if it holds, to f if not. There is none if both are one place.
func (a *assembler) jump(op uint16, k uint32, t, f label) label {
	if t == f {
		return t
	}
	f = a.near(f, 1)
	t = a.near(t, 0)
	at := label(len(a.code))
	return a.put(Insn{Code: op, Jt: uint8(at - t - 1), Jf: uint8(at - f - 1), K: k})
}

// near returns a place that leads to at and is in reach of a jump that is written next
// but for extra instructions.
func (a *assembler) near(at label, extra int) label {
	here := label(len(a.code))
	if int(here-at)-1+extra <= maxSkip {
		return at
	}
	if a.code[at].Code != opRet {
		return a.put(Insn{Code: opJA, K: uint32(here - at - 1)})
	}
	for i, old := range a.rets {
		if old == at {
			a.rets[i] = here // the nearest one, for those to come
		}
	}
	return a.put(a.code[at])
}

// tree finds the span of the number in A by bisection.
func (a *assembler) tree(spans []span) label {
	switch {
	case len(spans) == 1:
		return a.verdict(spans[0].verdict)
	case len(spans) == 3 && spans[0].verdict == spans[2].verdict && spans[2].from == spans[1].from+1:
		other := a.verdict(spans[0].verdict)
		return a.jump(opJEQ, spans[1].from, a.verdict(spans[1].verdict), other)
	}
	mid := len(spans) / 2
	right := a.tree(spans[mid:])
	left := a.tree(spans[:mid])
	return a.jump(opJGE, spans[mid].from, right, left)
}

func (a *assembler) verdict(v verdict) label {
	if v.chain == 0 {
		return a.ret(v.ret)
	}
	at := &a.chains[v.chain-1]
	if *at < 0 {
		*at = a.chain(a.c.chains[v.chain-1])
	}
	return *at
}

// chain tries clauses in turn, and after them gives the default answer.
func (a *assembler) chain(clauses []int) label {
	next := a.ret(a.c.def)
	for i := len(clauses) - 1; i >= 0; i-- {
		k := &a.c.clauses[clauses[i]]
		met := a.ret(k.ret)
		for j := len(k.conds) - 1; j >= 0; j-- {
			met = a.cond(k.conds[j], met, next)
		}
		next = met
	}
	return next
}

// cond leads to t if the condition is met, to f if not.
func (a *assembler) cond(k cond, t, f label) label {
	switch k.op {
	case spec.OpNotEqual:
		return a.masked(k.arg, ^uint64(0), k.val, f, t)
	case spec.OpEqual:
		return a.masked(k.arg, ^uint64(0), k.val, t, f)
	case spec.OpMaskedEqual:
		return a.masked(k.arg, k.mask, k.val, t, f)
	case spec.OpGreater:
		return a.above(opJGT, k.arg, k.val, t, f)
	case spec.OpGreaterEqual:
		return a.above(opJGE, k.arg, k.val, t, f)
	case spec.OpLess:
		return a.above(opJGE, k.arg, k.val, f, t)
	default: // OpLessEqual
		return a.above(opJGT, k.arg, k.val, f, t)
	}
}

// masked compares the bits of an argument that are in mask. Halves without such bits are
// not looked at.
func (a *assembler) masked(arg uint, mask, val uint64, t, f label) label {
	if t == f {
		return t
	}
	low, high := uint32(offArgs+8*arg), uint32(offArgs+8*arg+4)
	t = a.maskedHalf(low, uint32(mask), uint32(val), t, f)
	if a.wide {
		t = a.maskedHalf(high, uint32(mask>>32), uint32(val>>32), t, f)
	}
	return t
}

func (a *assembler) maskedHalf(offset, mask, val uint32, t, f label) label {
	switch {
	case mask == 0:
		return t
	case mask == low32:
		return a.load(offset, a.jump(opJEQ, val, t, f))
	case val == 0:
		return a.load(offset, a.jump(opJSET, mask, f, t))
	}
	a.jump(opJEQ, val, t, f)
	return a.load(offset, a.put(Insn{Code: opAnd, K: mask}))
}

// above compares an argument with a bound; op is opJGT or opJGE. The upper half decides
// unless it is equal.
func (a *assembler) above(op uint16, arg uint, val uint64, t, f label) label {
	low, high := uint32(offArgs+8*arg), uint32(offArgs+8*arg+4)
	if t == f || op == opJGE && val == 0 {
		return t
	}
	lower := a.load(low, a.jump(op, uint32(val), t, f))
	if !a.wide {
		return lower
	}
	equal := a.jump(opJEQ, uint32(val>>32), lower, f)
	return a.load(high, a.jump(opJGT, uint32(val>>32), t, equal))
}
