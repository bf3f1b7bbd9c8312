package seccomp

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what comes out now; look at the difference after go test -run %s -update", file, t.Name())
	}
}

func TestDescribe(t *testing.T) {
	var b bytes.Buffer
	if err := Describe(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/describe.txt", b.Bytes())
}

// The golden files say what the kernel will answer to each call of a container without
// capabilities, and what each capability adds, all by running the compiled program.
func TestEffectOfDefault(t *testing.T) {
	for _, host := range hosts {
		var b bytes.Buffer
		e := host.entries()[0]
		none := effect(t, e, Default(nil), host)
		fmt.Fprintf(&b, "The default profile on %s, version %d: each system call's answer without capabilities.\n", host, DefaultVersion)
		for i := range nameCount {
			if numbers[e.abi][i] >= 0 {
				fmt.Fprintf(&b, "%s: %s\n", nameOf(i), none[i])
			}
		}
		for cap := range strings.FieldsSeq(askedCaps) {
			fmt.Fprintf(&b, "\nWith %s:\n", cap)
			for i, now := range effect(t, e, Default([]string{cap}), host) {
				if now != none[i] {
					fmt.Fprintf(&b, "%s: %s\n", nameOf(i), now)
				}
			}
		}
		golden(t, "testdata/effect-"+host.String()+".txt", b.Bytes())
	}
}

// effect runs the program over every call, with first arguments that matter to some rule.
func effect(t *testing.T, e entry, p *spec.Seccomp, host Arch) [nameCount]string {
	prog, err := Compile(p, host)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, prog)
	var answers [nameCount]string
	for i := range nameCount {
		if numbers[e.abi][i] < 0 {
			continue
		}
		by := map[uint32][]string{}
		for _, a := range firstArguments(nameOf(i)) {
			ret := m.run(call{e.audit, uint32(numbers[e.abi][i]), [6]uint64{a}})
			by[ret] = append(by[ret], fmt.Sprintf("%#x", a))
		}
		var parts []string
		for _, ret := range []uint32{retAllow, retErrno | eperm, retErrno | enosys, retErrno | eafnosupport} {
			word := map[uint32]string{retAllow: "allow", retErrno | eperm: "EPERM", retErrno | enosys: "ENOSYS",
				retErrno | eafnosupport: "EAFNOSUPPORT"}[ret]
			if len(by) == 1 && len(by[ret]) > 0 {
				parts = append(parts, word)
			} else if len(by[ret]) > 0 {
				parts = append(parts, word+" for "+strings.Join(by[ret], " "))
			}
		}
		answers[i] = strings.Join(parts, "; ")
	}
	return answers
}

// firstArguments are those on which some rule for the call could depend.
func firstArguments(name string) []uint64 {
	var all []uint64
	switch name {
	case "clone", "unshare":
		for bit := range 34 {
			all = append(all, 1<<bit)
		}
		return append(all, 0, 17, 1<<32|0x10000000)
	case "socket", "socketpair":
		for family := range uint64(48) {
			all = append(all, family)
		}
		return append(all, 1<<32|1, 1<<32|38, 1<<32|40)
	}
	return []uint64{0, 8, 0x20000, 0x20008, 0x40000, 0x400000, 0xffffffff, 1 << 32, ^uint64(0)}
}

// Every system call of a native ABI has its place in the tables, and only one, so that
// none is held back without a reason.
func TestEveryCallHasAReason(t *testing.T) {
	places := map[string][]string{}
	for _, table := range [][]group{allowed[:], forms32[:], forCaps[:], withheld[:]} {
		for _, g := range table {
			if g.title == "" || !strings.HasSuffix(g.why, ".") || g.inNS != "" && !strings.HasSuffix(g.inNS, ".") {
				t.Errorf("%q has no title or no sentence", g.title)
			}
			for name := range strings.FieldsSeq(g.names) {
				places[name] = append(places[name], g.title)
			}
			if f := strings.Fields(g.names); !slices.IsSorted(f) {
				t.Errorf("%s: not sorted", g.title)
			}
		}
	}
	for _, g := range slices.Concat(forCaps[:], withheld[:]) {
		if g.inNS == "" {
			t.Errorf("%s: what does the container's own user namespace change?", g.title)
		}
	}
	for _, l := range limits {
		if l.names != "clone" && l.names != "clone3" && !slices.Contains(places[l.names], "limits") {
			places[l.names] = append(places[l.names], "limits")
		}
		if l.why == "" || l.inNS == "" {
			t.Errorf("%s: a limit without a reason", l.names)
		}
	}
	for name, titles := range places {
		if _, ok := find(name); !ok || len(titles) != 1 {
			t.Errorf("%s: in %q", name, titles)
		}
	}
	for i := range nameCount {
		if name := nameOf(i); places[name] == nil && (numbers[x86_64][i] >= 0 || numbers[aarch64][i] >= 0) {
			t.Errorf("%s has no place", name)
		}
	}
}

func TestAskedCaps(t *testing.T) {
	var asked []string
	for _, g := range forCaps {
		asked = append(asked, strings.Fields(g.caps)...)
	}
	for _, l := range limits {
		asked = append(asked, strings.Fields(l.unless+" "+l.with)...)
	}
	slices.Sort(asked)
	if asked = slices.Compact(asked); strings.Join(asked, " ") != askedCaps {
		t.Fatalf("the tables ask for %q", asked)
	}
}

// What the default profile says is also what the model reads in it, 32-bit ABIs included.
func TestDefaultCompilesToItself(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_NET_ADMIN", "CAP_SYS_PTRACE"}, strings.Fields(askedCaps)} {
		for _, abis := range [][]spec.SeccompArch{nil, {spec.ArchX86, spec.ArchARM, spec.ArchX32}} {
			p := Default(caps, abis...)
			for _, host := range hosts {
				prog, err := Compile(p, host)
				if err != nil || len(prog.Warnings) > 0 {
					t.Fatal(err, prog.Warnings)
				}
				compare(t, p, host, prog, [][6]uint64{{}, {38}, {1}, {1<<32 | 38}, {0x10000000}, {0x20008}})
			}
		}
	}
}

// Only the native ABI is open by default: all others kill.
func TestDefaultClosesOtherABIs(t *testing.T) {
	for _, host := range hosts {
		prog, err := Compile(Default(strings.Fields(askedCaps)), host)
		if err != nil {
			t.Fatal(err)
		}
		m := newMachine(t, prog)
		for _, e := range host.entries()[1:] {
			for nr := range uint32(600) {
				if got := m.run(call{audit: e.audit, nr: e.first + nr}); got != retKillProcess {
					t.Fatalf("%s: %s call %d: %#x", host, e.name, nr, got)
				}
			}
		}
	}
}
