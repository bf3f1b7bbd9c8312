//go:build libseccomp

package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/spec"
)

// TestAgainstLibseccomp compares our programs with those of libseccomp, which runc and
// crun use: go test -tags libseccomp. It needs gcc and libseccomp.so.2.
func TestAgainstLibseccomp(t *testing.T) {
	if Host != AMD64 {
		t.Skip("the comparison is written for amd64")
	}
	tool := filepath.Join(t.TempDir(), "libseccomp")
	if out, err := exec.Command("gcc", "-o", tool, "testdata/libseccomp.c", "-l:libseccomp.so.2").CombinedOutput(); err != nil {
		t.Skipf("gcc or libseccomp.so.2 is missing: %v\n%s", err, out)
	}
	calls := []string{"read", "ioctl", "openat", "personality", "clone"}
	same, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := genAgreeable(t, calls)
		theirs, err := libseccomp(tool, p)
		if err != nil {
			refused++ // it does so when two rules contradict each other
			return
		}
		ours, err := Compile(p, AMD64)
		if err != nil {
			t.Fatal(err)
		}
		a, b := newMachine(t, ours), newMachine(t, theirs)
		for _, e := range AMD64.entries() {
			for _, name := range calls {
				place, _ := find(name)
				for n := range uint64(1000) {
					k := call{audit: e.audit, nr: uint32(numbers[e.abi][place]), args: [6]uint64{n % 10, n / 10 % 10, n / 100}}
					if x, y := a.run(k), b.run(k); x != y && x != retErrno|enosys {
						t.Fatalf("audit %#x %s %v: ours %#x, libseccomp's %#x", k.audit, name, k.args, x, y)
					}
					same++
				}
			}
		}
	})
	t.Logf("%d calls answered alike; %d profiles refused by libseccomp", same, refused)
}

// genAgreeable makes profiles on whose meaning libseccomp agrees with its own manual: either
// with one rule a call, or with one condition a rule. Where several rules have several
// conditions, its tree does not come back from a branch of which the first condition was
// met and the second was not, so that it refuses calls that a later rule allows. And a mask
// that leaves out the upper half puts its condition behind all others.
func genAgreeable(t *rapid.T, calls []string) *spec.Seccomp {
	p := &spec.Seccomp{DefaultAction: spec.ActErrno, Architectures: []spec.SeccompArch{spec.ArchX86, spec.ArchX32}}
	oneRule := rapid.Bool().Draw(t, "oneRule")
	for i := range rapid.IntRange(1, len(calls)).Draw(t, "rules") {
		name, most, ops := calls[i], 3, ops
		if !oneRule {
			name, most, ops = rapid.SampledFrom(calls[:2]).Draw(t, "name"), 1, ops[:len(ops)-1]
		}
		r := spec.SeccompRule{Names: []string{name}, Action: rapid.SampledFrom([]spec.SeccompAction{spec.ActAllow, spec.ActLog,
			spec.ActTrap}).Draw(t, "action")}
		for _, i := range rapid.SliceOfNDistinct(rapid.UintRange(0, 2), 0, most, rapid.ID).Draw(t, "args") {
			r.Args = append(r.Args, spec.SeccompArg{
				Index: i, Op: rapid.SampledFrom(ops).Draw(t, "op"),
				Value: rapid.Uint64Range(1, 7).Draw(t, "value"), ValueTwo: rapid.Uint64Range(0, 7).Draw(t, "valueTwo"),
			})
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	return p
}

func libseccomp(tool string, p *spec.Seccomp) (Program, error) {
	var in strings.Builder
	fmt.Fprintf(&in, "default %d\narch %d\narch %d\n", modelAnswer(p.DefaultAction, nil), 0x40000003, 0x4000003e)
	for _, r := range p.Syscalls {
		fmt.Fprintf(&in, "rule %d %s %d", modelAnswer(r.Action, r.ErrnoRet), r.Names[0], len(r.Args))
		for _, a := range r.Args {
			op := 1 + slices.Index([]spec.SeccompOp{spec.OpNotEqual, spec.OpLess, spec.OpLessEqual, spec.OpEqual,
				spec.OpGreaterEqual, spec.OpGreater, spec.OpMaskedEqual}, a.Op)
			fmt.Fprintf(&in, " %d %d %d %d", a.Index, op, a.Value, a.ValueTwo)
		}
		in.WriteString("\n")
	}
	cmd := exec.Command(tool)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		return Program{}, err
	}
	var prog Program
	for r := bytes.NewReader(out); r.Len() > 0; {
		var one Insn
		if err := binary.Read(r, binary.LittleEndian, &one); err != nil {
			return Program{}, err
		}
		prog.Insns = append(prog.Insns, one)
	}
	return prog, nil
}
