package seccomp

import (
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/cortenhq/corten/internal/spec"
)

// call is what a filter sees of a system call: struct seccomp_data.
type call struct {
	audit uint32
	nr    uint32
	args  [6]uint64
}

// model answers a call the slow way: by the text of the package comment, rule by rule,
// with nothing of the compiler but the table of numbers.
func model(p *spec.Seccomp, host Arch, k call) uint32 {
	var at *entry
	entries := host.entries()
	for i, e := range entries {
		if e.audit == k.audit && (host == ARM64 || e.abi == x86 || (e.abi == x32) == (k.nr >= x32Bit)) {
			at = &entries[i]
		}
	}
	if k.nr == notACall {
		for i, e := range entries {
			if e.audit == k.audit && (i == 0 || slices.Contains(p.Architectures, e.name)) {
				return retAllow
			}
		}
	}
	if at == nil || at != &entries[0] && !slices.Contains(p.Architectures, at.name) {
		return retKillProcess
	}
	def := modelAnswer(p.DefaultAction, p.DefaultErrnoRet)
	rules, top := modelRules(p, at, k, def)
	slices.SortStableFunc(rules, func(a, b modelRule) int {
		switch {
		case len(a.args) == 0 && len(b.args) == 0:
			return 0
		case len(a.args) == 0:
			return -1
		case len(b.args) == 0:
			return 1
		}
		return slices.CompareFunc(a.args, b.args, modelOrder)
	})
	for _, r := range rules {
		if !slices.ContainsFunc(r.args, func(a spec.SeccompArg) bool { return !modelMet(a, k, at.wide) }) {
			return r.ret
		}
	}
	permissive := def&retAction == retAllow || def&retAction == retLog || def&retAction == retTrace
	if top >= 0 && int64(k.nr) > top && !permissive {
		return retErrno | enosys
	}
	return def
}

type modelRule struct {
	ret  uint32
	args []spec.SeccompArg
}

// modelRules are those about the call, and the highest number that any rule names.
func modelRules(p *spec.Seccomp, at *entry, k call, def uint32) (rules []modelRule, top int64) {
	top = -1
	for _, r := range p.Syscalls {
		ret := modelAnswer(r.Action, r.ErrnoRet)
		split := modelSplit(r.Args)
		for _, name := range r.Names {
			place, ok := find(name)
			if !ok {
				continue
			}
			nr := int64(numbers[at.abi][place])
			top = max(top, nr)
			if nr == int64(k.nr) && ret != def {
				for _, args := range split {
					rules = append(rules, modelRule{ret, args})
				}
			}
			if at.abi != x86 {
				continue
			}
			by, number := multiplexer(name)
			place, ok = find(by)
			if !ok || len(r.Args) > 0 && int32(ret&retAction) >= int32(def&retAction) {
				continue
			}
			nr = int64(numbers[x86][place])
			top = max(top, nr)
			if nr == int64(k.nr) && ret != def {
				mask := uint64(0xffffffff)
				if by == "ipc" {
					mask = 0xffff
				}
				rules = append(rules, modelRule{ret, []spec.SeccompArg{{Op: spec.OpMaskedEqual, Value: mask, ValueTwo: number}}})
			}
		}
	}
	return rules, top
}

func modelSplit(args []spec.SeccompArg) [][]spec.SeccompArg {
	for i, a := range args {
		for _, b := range args[:i] {
			if a.Index == b.Index {
				var split [][]spec.SeccompArg
				for _, one := range args {
					split = append(split, []spec.SeccompArg{one})
				}
				return split
			}
		}
	}
	args = slices.Clone(args)
	slices.SortFunc(args, func(a, b spec.SeccompArg) int { return cmp.Compare(a.Index, b.Index) })
	return [][]spec.SeccompArg{args}
}

func modelOrder(a, b spec.SeccompArg) int {
	class := func(o spec.SeccompOp) int {
		return slices.Index([]spec.SeccompOp{spec.OpEqual, spec.OpNotEqual, spec.OpMaskedEqual,
			spec.OpLess, spec.OpLessEqual, spec.OpGreater, spec.OpGreaterEqual}, o)
	}
	group := func(o spec.SeccompOp) int { return [...]int{0, 0, 0, 1, 1, 2, 2}[class(o)] }
	value := func(a spec.SeccompArg) uint64 {
		if a.Op == spec.OpMaskedEqual {
			return a.Value & a.ValueTwo
		}
		return a.Value
	}
	if a.Index != b.Index {
		return -cmp.Compare(a.Index, b.Index)
	}
	if group(a.Op) != group(b.Op) {
		return cmp.Compare(group(a.Op), group(b.Op))
	}
	if group(a.Op) == 1 {
		return cmp.Compare(value(a), value(b))
	}
	return -cmp.Compare(value(a), value(b))
}

func modelMet(a spec.SeccompArg, k call, wide bool) bool {
	x, v, two := k.args[a.Index], a.Value, a.ValueTwo
	if !wide {
		x, v, two = x&low32, v&low32, two&low32
	}
	switch a.Op {
	case spec.OpEqual:
		return x == v
	case spec.OpNotEqual:
		return x != v
	case spec.OpLess:
		return x < v
	case spec.OpLessEqual:
		return x <= v
	case spec.OpGreater:
		return x > v
	case spec.OpGreaterEqual:
		return x >= v
	case spec.OpMaskedEqual:
		return x&v == two&v
	}
	panic(a.Op)
}

func modelAnswer(a spec.SeccompAction, errno *uint) uint32 {
	n := uint32(eperm)
	if errno != nil {
		n = uint32(*errno)
	}
	switch a {
	case spec.ActErrno:
		return 0x50000 | n
	case spec.ActTrace:
		return 0x7ff00000 | n
	}
	return map[spec.SeccompAction]uint32{
		spec.ActKill: 0, spec.ActKillThread: 0, spec.ActKillProcess: 1 << 31, spec.ActTrap: 0x30000,
		spec.ActNotify: 0x7fc00000, spec.ActLog: 0x7ffc0000, spec.ActAllow: 0x7fff0000,
	}[a]
}

// failer is what a test, a fuzz target and a property have in common.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// machine runs a program as Linux would.
type machine struct {
	t  failer
	vm *bpf.VM
}

func newMachine(t failer, p Program) *machine {
	t.Helper()
	raw := make([]bpf.RawInstruction, 0, len(p.Insns))
	for i, in := range p.Insns {
		raw = append(raw, bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K})
		checkInsn(t, p.Insns, i)
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("an instruction is not known")
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, vm}
}

// checkInsn checks what Linux checks: seccomp_check_filter and bpf_check_classic.
func checkInsn(t failer, code []Insn, i int) {
	t.Helper()
	in := code[i]
	left := uint64(len(code) - i - 1)
	switch in.Code {
	case opLoad:
		if in.K%4 != 0 || in.K >= 64 {
			t.Fatalf("instruction %d loads from %d", i, in.K)
		}
	case opAnd, opRet:
	case opJA:
		if uint64(in.K) >= left {
			t.Fatalf("instruction %d jumps out of the program", i)
		}
	case opJEQ, opJGT, opJGE, opJSET:
		if uint64(in.Jt) >= left || uint64(in.Jf) >= left {
			t.Fatalf("instruction %d jumps out of the program", i)
		}
	default:
		t.Fatalf("instruction %d has code %#x", i, in.Code)
	}
	if left == 0 && in.Code != opRet {
		t.Fatal("the program does not end")
	}
}

// run answers a call. The machine loads words in network order; Linux loads them in its
// own, so each word of the data is written the other way round.
func (m *machine) run(k call) uint32 {
	m.t.Helper()
	var data [64]byte
	binary.BigEndian.PutUint32(data[0:], k.nr)
	binary.BigEndian.PutUint32(data[4:], k.audit)
	for i, a := range k.args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	n, err := m.vm.Run(data[:])
	if err != nil {
		m.t.Fatal(err)
	}
	return uint32(n)
}
