package seccomp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

var hosts = []Arch{AMD64, ARM64}

// everyNumber are the numbers at which the answers of any filter can change, and their
// neighbours.
func everyNumber() []uint32 {
	var all []uint32
	for n := range uint32(560) {
		all = append(all, n, n|x32Bit)
	}
	for n := range uint32(10) {
		all = append(all, 0x0f0000+n, 1<<31+n, x32Bit-n-1, notACall-n)
	}
	return all
}

func audits(h Arch) []uint32 {
	var all []uint32
	for _, e := range h.entries() {
		all = append(all, e.audit)
	}
	return slices.Compact(all)
}

// compare runs the program and the model over every number with the given arguments.
func compare(t failer, p *spec.Seccomp, host Arch, prog Program, vectors [][6]uint64) {
	t.Helper()
	m := newMachine(t, prog)
	for _, nr := range []uint32{0, 59, x32Bit, notACall} {
		for _, foreign := range []uint32{0, 0xc00000f3, 0x40000016} {
			if got := m.run(call{audit: foreign, nr: nr}); got != retKillProcess {
				t.Fatalf("%s: audit %#x number %#x: program says %#x", host, foreign, nr, got)
			}
		}
	}
	for _, audit := range audits(host) {
		for _, nr := range everyNumber() {
			for _, args := range vectors {
				k := call{audit, nr, args}
				if got, want := m.run(k), model(p, host, k); got != want {
					t.Fatalf("%s: audit %#x number %#x arguments %#x: program says %#x, model %#x", host, audit, nr, args, got, want)
				}
			}
		}
	}
}

var actions = []spec.SeccompAction{spec.ActKill, spec.ActKillProcess, spec.ActKillThread, spec.ActTrap, spec.ActErrno,
	spec.ActTrace, spec.ActAllow, spec.ActLog, spec.ActNotify}

var ops = []spec.SeccompOp{spec.OpNotEqual, spec.OpLess, spec.OpLessEqual, spec.OpEqual, spec.OpGreaterEqual,
	spec.OpGreater, spec.OpMaskedEqual}

// genValue prefers values by which mistakes show: small ones, and those at the edges of a
// half.
func genValue() *rapid.Generator[uint64] {
	return rapid.OneOf(
		rapid.Uint64Range(0, 3),
		rapid.SampledFrom([]uint64{0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 1 << 32, 1<<32 + 1, 2 << 32, 1 << 63,
			0xffffffff_00000000, 0xffffffff_00000001, 0xffffffff_fffffffe, 0xffffffff_ffffffff}),
		rapid.Uint64(),
	)
}

func genErrno(t *rapid.T, a spec.SeccompAction) *uint {
	if a == spec.ActErrno || a == spec.ActTrace {
		if n := rapid.UintRange(0, 40).Draw(t, "errno"); n > 0 {
			return &n
		}
	}
	return nil
}

func genProfile(t *rapid.T) *spec.Seccomp {
	all := strings.Fields(names)
	few := []string{"read", "socket", "connect", "accept", "socketcall", "shmget", "semop", "ipc", "ioctl", "clone", "execve",
		"cacheflush", "removexattrat", "no_such_call"}
	genName := rapid.OneOf(rapid.SampledFrom(few), rapid.SampledFrom(all))
	genArg := rapid.Custom(func(t *rapid.T) spec.SeccompArg {
		return spec.SeccompArg{
			Index: rapid.UintRange(0, 5).Draw(t, "index"), Op: rapid.SampledFrom(ops).Draw(t, "op"),
			Value: genValue().Draw(t, "value"), ValueTwo: genValue().Draw(t, "valueTwo"),
		}
	})
	genRule := rapid.Custom(func(t *rapid.T) spec.SeccompRule {
		r := spec.SeccompRule{
			Names:  rapid.SliceOfN(genName, 1, 8).Draw(t, "names"),
			Action: rapid.SampledFrom(actions).Draw(t, "action"),
			Args:   rapid.SliceOfN(genArg, 0, 3).Draw(t, "args"),
		}
		r.ErrnoRet = genErrno(t, r.Action)
		return r
	})
	p := &spec.Seccomp{
		DefaultAction: rapid.SampledFrom(actions[:len(actions)-1]).Draw(t, "default"),
		ListenerPath:  "/run/agent",
		Architectures: rapid.SliceOfNDistinct(rapid.SampledFrom([]spec.SeccompArch{spec.ArchX86, spec.ArchX86_64, spec.ArchX32,
			spec.ArchARM, spec.ArchAARCH64, "SCMP_ARCH_S390X"}), 0, 5, rapid.ID).Draw(t, "architectures"),
		Syscalls: rapid.SliceOfN(genRule, 0, 40).Draw(t, "rules"),
	}
	p.DefaultErrnoRet = genErrno(t, p.DefaultAction)
	return p
}

// The program of a profile says the same as the model does, for every number.
func TestCompiledProgramSaysWhatTheProfileSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := genProfile(t)
		vectors := [][6]uint64{{}}
		// Values that rules compare with, and their neighbours, are where answers change.
		for _, r := range p.Syscalls {
			for _, a := range r.Args {
				v := vectors[len(vectors)-1]
				v[a.Index] = a.Value + uint64(rapid.IntRange(-1, 1).Draw(t, "off"))
				if a.Op == spec.OpMaskedEqual && rapid.Bool().Draw(t, "masked") {
					v[a.Index] = a.ValueTwo&a.Value | ^a.Value
				}
				vectors = append(vectors, v)
			}
		}
		if len(vectors) > 8 {
			vectors = append(vectors[:4], vectors[len(vectors)-4:]...)
		}
		for _, host := range hosts {
			prog, err := Compile(p, host)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, p, host, prog, vectors)
		}
	})
}

// Jumps of more than 255 instructions come with rules of many conditions.
func TestLongProgram(t *testing.T) {
	p := &spec.Seccomp{DefaultAction: spec.ActErrno, Architectures: []spec.SeccompArch{spec.ArchX86, spec.ArchX32, spec.ArchARM}}
	vectors := [][6]uint64{{}}
	for i := range uint64(220) {
		p.Syscalls = append(p.Syscalls, spec.SeccompRule{
			Names: []string{nameOf(int(i))}, Action: actions[i%uint64(len(actions)-1)],
			Args: []spec.SeccompArg{{Index: uint(i % 6), Op: ops[i%7], Value: i<<32 | 7, ValueTwo: 7}},
		})
		if i%40 == 0 {
			vectors = append(vectors, [6]uint64{i<<32 | 7, i<<32 | 8, i<<32 | 6, 7, i << 32, i<<32 | 7})
		}
	}
	for _, host := range hosts {
		prog, err := Compile(p, host)
		if err != nil {
			t.Fatal(err)
		}
		if len(prog.Insns) < 3*maxSkip {
			t.Fatalf("%s: only %d instructions", host, len(prog.Insns))
		}
		compare(t, p, host, prog, vectors)
	}
}

func TestTooLong(t *testing.T) {
	p := &spec.Seccomp{DefaultAction: spec.ActErrno}
	for i := range uint64(MaxInsns / 4) {
		p.Syscalls = append(p.Syscalls, spec.SeccompRule{
			Names: []string{"ioctl"}, Action: spec.ActAllow, Args: []spec.SeccompArg{{Index: 1, Op: spec.OpEqual, Value: i}},
		})
	}
	_, err := Compile(p, AMD64)
	if !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" || !strings.Contains(err.Error(), "instructions, and Linux takes 4096") {
		t.Fatal(err)
	}
}

func TestOrderOfRules(t *testing.T) {
	rule := func(a spec.SeccompAction, args ...spec.SeccompArg) spec.SeccompRule {
		return spec.SeccompRule{Names: []string{"ioctl"}, Action: a, Args: args}
	}
	is := func(i uint, v uint64) spec.SeccompArg { return spec.SeccompArg{Index: i, Op: spec.OpEqual, Value: v} }
	from := func(i uint, v uint64) spec.SeccompArg {
		return spec.SeccompArg{Index: i, Op: spec.OpGreaterEqual, Value: v}
	}
	for _, c := range []struct {
		what  string
		rules []spec.SeccompRule
		args  [6]uint64
		want  uint32
	}{
		{"no rule", nil, [6]uint64{}, retErrno | eperm},
		{"alternatives", []spec.SeccompRule{rule(spec.ActAllow, is(0, 1)), rule(spec.ActAllow, is(0, 2))}, [6]uint64{2}, retAllow},
		{"all conditions", []spec.SeccompRule{rule(spec.ActAllow, is(0, 1), is(1, 1))}, [6]uint64{1, 2}, retErrno | eperm},
		{"one argument twice", []spec.SeccompRule{rule(spec.ActAllow, from(0, 5), is(0, 1))}, [6]uint64{1}, retAllow},
		{"no condition hides conditions", []spec.SeccompRule{rule(spec.ActKillProcess, is(0, 1)), rule(spec.ActAllow)}, [6]uint64{1}, retAllow},
		{"the first without conditions", []spec.SeccompRule{rule(spec.ActLog), rule(spec.ActAllow)}, [6]uint64{}, retLog},
		{"the default action is passed over", []spec.SeccompRule{rule(spec.ActErrno), rule(spec.ActAllow)}, [6]uint64{}, retAllow},
		{"the narrower first", []spec.SeccompRule{rule(spec.ActAllow, from(0, 0)), rule(spec.ActLog, is(0, 1))}, [6]uint64{1}, retLog},
		{"of bounds the tighter", []spec.SeccompRule{rule(spec.ActAllow, from(0, 3)), rule(spec.ActLog, from(0, 5))}, [6]uint64{5}, retLog},
		{"of equals the first", []spec.SeccompRule{rule(spec.ActLog, is(0, 1)), rule(spec.ActAllow, is(0, 1))}, [6]uint64{1}, retLog},
		{"the shorter first", []spec.SeccompRule{rule(spec.ActAllow, is(0, 1), is(1, 1)), rule(spec.ActLog, is(0, 1))}, [6]uint64{1, 1}, retLog},
	} {
		p := &spec.Seccomp{DefaultAction: spec.ActErrno, Syscalls: c.rules}
		for _, host := range hosts {
			prog, err := Compile(p, host)
			if err != nil {
				t.Fatal(err)
			}
			e := host.entries()[0]
			place, _ := find("ioctl")
			k := call{e.audit, uint32(numbers[e.abi][place]), c.args}
			if got := newMachine(t, prog).run(k); got != c.want && !(c.rules == nil && got == retErrno|eperm) {
				t.Errorf("%s, %s: %#x, want %#x", host, c.what, got, c.want)
			}
		}
	}
}

// Rules about sockets and System V IPC hold for the roundabout ways of 32-bit x86 as well.
func TestMultiplexedCalls(t *testing.T) {
	deny := func(args ...spec.SeccompArg) *spec.Seccomp {
		return &spec.Seccomp{DefaultAction: spec.ActAllow, Architectures: []spec.SeccompArch{spec.ArchX86}, Syscalls: []spec.SeccompRule{
			{Names: []string{"socket", "shmget"}, Action: spec.ActErrno, Args: args}}}
	}
	alg := spec.SeccompArg{Op: spec.OpEqual, Value: 38}
	allow := &spec.Seccomp{DefaultAction: spec.ActErrno, Architectures: []spec.SeccompArch{spec.ArchX86}, Syscalls: []spec.SeccompRule{
		{Names: []string{"socket"}, Action: spec.ActAllow, Args: []spec.SeccompArg{alg}},
		{Names: []string{"connect", "ipc"}, Action: spec.ActAllow}}}
	const socketcall, ipc, refused = 102, 117, retErrno | eperm
	for _, c := range []struct {
		what string
		p    *spec.Seccomp
		nr   uint32
		arg  uint64
		want uint32
	}{
		{"a denied socket", deny(), socketcall, 1, refused},
		{"another call", deny(), socketcall, 2, retAllow},
		{"a denied kind of socket: all of them", deny(alg), socketcall, 1, refused},
		{"a denied shmget", deny(), ipc, 23, refused},
		{"a denied shmget of another version", deny(), ipc, 1<<16 | 23, refused},
		{"an allowed kind of socket: none of them", allow, socketcall, 1, refused},
		{"an allowed connect", allow, socketcall, 3, retAllow},
		{"an allowed ipc", allow, ipc, 23, retAllow},
	} {
		prog, err := Compile(c.p, AMD64)
		if err != nil {
			t.Fatal(err)
		}
		if got := newMachine(t, prog).run(call{0x40000003, c.nr, [6]uint64{c.arg}}); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	notify := []spec.SeccompRule{{Names: []string{"mount"}, Action: spec.ActNotify}}
	for _, c := range []struct {
		flags []spec.SeccompFlag
		rules []spec.SeccompRule
		want  uint32
	}{
		{nil, nil, 4},
		{[]spec.SeccompFlag{}, nil, 0},
		{[]spec.SeccompFlag{spec.FlagTSync, spec.FlagLog, spec.FlagSpecAllow}, nil, 7},
		{[]spec.SeccompFlag{spec.FlagWaitKillableRecv}, nil, 0},
		{[]spec.SeccompFlag{spec.FlagTSync, spec.FlagWaitKillableRecv}, notify, 8 | 32},
	} {
		prog, err := Compile(&spec.Seccomp{DefaultAction: spec.ActAllow, Flags: c.flags, Syscalls: c.rules, ListenerPath: "/s"}, AMD64)
		if err != nil || prog.Flags != c.want || prog.Notify() != (c.rules != nil) {
			t.Errorf("%v: %#x, %v, want %#x", c.flags, prog.Flags, err, c.want)
		}
	}
}

func TestRefusedProfiles(t *testing.T) {
	n := uint(5000)
	rule := func(r spec.SeccompRule) *spec.Seccomp {
		return &spec.Seccomp{DefaultAction: spec.ActAllow, Syscalls: []spec.SeccompRule{r}}
	}
	for want, p := range map[string]*spec.Seccomp{
		`default action: unknown action ""`:                      {},
		`default action: SCMP_ACT_ALLOW has no errno`:            {DefaultAction: spec.ActAllow, DefaultErrnoRet: &n},
		`default action: errno 5000 is above 4095`:               {DefaultAction: spec.ActErrno, DefaultErrnoRet: &n},
		`default action: SCMP_ACT_NOTIFY would hold up`:          {DefaultAction: spec.ActNotify},
		`unknown architecture "SCMP_ARCH_Z80"`:                   {DefaultAction: spec.ActAllow, Architectures: []spec.SeccompArch{"SCMP_ARCH_Z80"}},
		`unknown flag "X"`:                                       {DefaultAction: spec.ActAllow, Flags: []spec.SeccompFlag{"X"}},
		`rule 1: names no system call`:                           rule(spec.SeccompRule{Action: spec.ActAllow}),
		`rule 1 (read): unknown action "ALLOW"`:                  rule(spec.SeccompRule{Names: []string{"read"}, Action: "ALLOW"}),
		`rule 1 (read): unknown operator "EQ"`:                   rule(spec.SeccompRule{Names: []string{"read"}, Action: spec.ActLog, Args: []spec.SeccompArg{{Op: "EQ"}}}),
		`rule 1 (read): argument 6: a system call has arguments`: rule(spec.SeccompRule{Names: []string{"read"}, Action: spec.ActLog, Args: []spec.SeccompArg{{Index: 6, Op: spec.OpEqual}}}),
		`SCMP_ACT_NOTIFY without a listenerPath`:                 rule(spec.SeccompRule{Names: []string{"read"}, Action: spec.ActNotify}),
		`rule 1 (read): SCMP_ACT_LOG has no errno`:               rule(spec.SeccompRule{Names: []string{"read"}, Action: spec.ActLog, ErrnoRet: &n}),
	} {
		_, err := Compile(p, AMD64)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(fmt.Sprint(err), "compile seccomp profile") ||
			!strings.Contains(fmt.Sprint(err), want) || errs.HintOf(err) == "" {
			t.Errorf("%v (hint %q), want %s", err, errs.HintOf(err), want)
		}
	}
}

func TestWarnings(t *testing.T) {
	p := &spec.Seccomp{DefaultAction: spec.ActErrno, Architectures: []spec.SeccompArch{"SCMP_ARCH_MIPS"}, Syscalls: []spec.SeccompRule{
		{Names: []string{"raed", "read", "chown32", "riscv_hwprobe", "raed"}, Action: spec.ActAllow},
		{Names: []string{"ioctl"}, Action: spec.ActAllow, Args: []spec.SeccompArg{{Op: spec.OpEqual}, {Op: spec.OpEqual, Value: 1}}},
	}}
	prog, err := Compile(p, AMD64)
	want := []string{`"raed": no such system call is known, and the rule for it has no effect`,
		`"ioctl": two conditions on one argument: either is enough`}
	if err != nil || !slices.Equal(prog.Warnings, want) {
		t.Fatalf("%q, %v", prog.Warnings, err)
	}
}
