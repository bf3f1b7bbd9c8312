package cgroup

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/spec"
)

// allowed is what rules mean: for each bit of the access the last rule that speaks of it decides.
func allowed(rules []rule, kind byte, major, minor int64, access uint8) bool {
	for bit := uint8(1); bit <= access; bit <<= 1 {
		if access&bit == 0 {
			continue
		}
		ok := false
		for _, r := range rules {
			if r.meets(rule{kind: kind, major: major, minor: minor}) && r.access&bit != 0 {
				ok = r.allow
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// run interprets the instructions that filters are made of, as the kernel does.
func run(t interface{ Fatalf(string, ...any) }, insns []kernel.BPFInsn, kind byte, major, minor int64, access uint8) bool {
	var context [12]byte
	kinds := map[byte]uint32{'b': kindBlock, 'c': kindChar}
	binary.LittleEndian.PutUint32(context[0:], uint32(access)<<16|kinds[kind])
	binary.LittleEndian.PutUint32(context[4:], uint32(major))
	binary.LittleEndian.PutUint32(context[8:], uint32(minor))
	var reg [11]uint32
	for pc := 0; pc < len(insns); pc++ {
		i := insns[pc]
		dst, imm := &reg[i.Regs&15], uint32(i.Imm)
		switch i.Op {
		case unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W:
			*dst = binary.LittleEndian.Uint32(context[i.Off:])
		case unix.BPF_ALU | unix.BPF_AND:
			*dst &= imm
		case unix.BPF_ALU | unix.BPF_RSH:
			*dst >>= imm
		case unix.BPF_ALU | unix.BPF_MOV:
			*dst = imm
		case unix.BPF_JMP32 | unix.BPF_JNE:
			if *dst != imm {
				pc += int(i.Off)
			}
		case unix.BPF_JMP32 | unix.BPF_JSET:
			if *dst&imm != 0 {
				pc += int(i.Off)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.Off)
		case unix.BPF_JMP | unix.BPF_EXIT:
			return reg[regReturn] == 1
		default:
			t.Fatalf("instruction %d: %+v is not known", pc, i)
		}
	}
	t.Fatalf("the program does not end")
	return false
}

// listV1 is the v1 controller (security/device_cgroup.c): one default, and exceptions from it.
type listV1 struct {
	allow      bool
	exceptions []rule
}

func (l *listV1) write(t interface{ Fatalf(string, ...any) }, w Write) {
	allow := strings.HasSuffix(w.File, "devices.allow")
	if w.Value[0] == 'a' {
		*l = listV1{allow: allow}
		return
	}
	var kind byte
	var numbers, access string
	if _, err := fmt.Sscanf(w.Value, "%c %s %s", &kind, &numbers, &access); err != nil {
		t.Fatalf("%q: %v", w.Value, err)
	}
	r := rule{kind: kind, major: -1, minor: -1}
	major, minor, _ := strings.Cut(numbers, ":")
	if major != "*" {
		fmt.Sscan(major, &r.major)
	}
	if minor != "*" {
		fmt.Sscan(minor, &r.minor)
	}
	for i, c := range "mrw" {
		if strings.ContainsRune(access, c) {
			r.access |= 1 << i
		}
	}
	i := slices.IndexFunc(l.exceptions, r.sameDevices)
	switch {
	case allow == l.allow && i >= 0:
		l.exceptions[i].access &^= r.access
	case allow != l.allow && i >= 0:
		l.exceptions[i].access |= r.access
	case allow != l.allow:
		l.exceptions = append(l.exceptions, r)
	}
}

func (l *listV1) allows(kind byte, major, minor int64, access uint8) bool {
	for _, x := range l.exceptions {
		if !x.meets(rule{kind: kind, major: major, minor: minor}) {
			continue
		}
		if l.allow && x.access&access != 0 {
			return false
		}
		if !l.allow && access&^x.access == 0 {
			return true
		}
	}
	return l.allow
}

func planV1(rules []rule) ([]Write, error) {
	b := &builder{}
	err := b.devicesV1(site{dir: "/d"}, rules)
	return b.plan.Writes, err
}

func TestRules(t *testing.T) {
	num := func(n int64) *int64 { return &n }
	deny := spec.DeviceRule{Access: "rwm"}
	null := spec.DeviceRule{Allow: true, Type: "c", Major: num(1), Minor: num(3), Access: "rw"}
	for _, test := range []struct {
		name  string
		rules []spec.DeviceRule
		want  string // of null: r w m rw rwm, then of zero: r
		v1    string // what v1 writes, empty: it cannot
	}{
		{"nothing", []spec.DeviceRule{}, "-----,-", "deny a"},
		{"all", []spec.DeviceRule{{Allow: true}}, "+++++,+", "allow a"},
		{"one", []spec.DeviceRule{deny, null}, "++-+-,-", "deny a;allow c 1:3 rw"},
		{"the last wins", []spec.DeviceRule{null, deny}, "-----,-", "deny a"},
		{"without a catch-all", []spec.DeviceRule{null}, "++-+-,-", "deny a;allow c 1:3 rw"},
		{"less again", []spec.DeviceRule{deny, null, {Type: "c", Major: num(1), Minor: num(3), Access: "w"}}, "+----,-",
			"deny a;allow c 1:3 rw;deny c 1:3 w"},
		{"in two parts", []spec.DeviceRule{deny, null, {Allow: true, Type: "c", Major: num(1), Minor: num(3), Access: "m"}}, "+++++,-",
			"deny a;allow c 1:3 rw;allow c 1:3 m"},
		{"all but one", []spec.DeviceRule{{Allow: true, Type: "a", Access: "mrw"}, {Type: "c", Major: num(1), Minor: num(3), Access: "w"}}, "+-+--,+",
			"allow a;deny c 1:3 w"},
		{"all but one, which it is after all", []spec.DeviceRule{{Allow: true}, {Type: "c", Major: num(1), Minor: num(3)}, null}, "++-+-,+",
			"allow a;deny c 1:3 rwm;allow c 1:3 rw"},
		{"both kinds", []spec.DeviceRule{deny, {Allow: true, Major: num(1), Minor: num(3)}}, "+++++,-",
			"deny a;allow b 1:3 rwm;allow c 1:3 rwm"},
		{"both kinds, one access", []spec.DeviceRule{deny, {Allow: true, Access: "m"}}, "--+--,-",
			"deny a;allow b *:* m;allow c *:* m"},
		{"all minors", []spec.DeviceRule{deny, {Allow: true, Type: "c", Major: num(1), Minor: num(-1), Access: "r"}}, "+----,+",
			"deny a;allow c 1:* r"},
		{"all majors", []spec.DeviceRule{deny, {Allow: true, Type: "c", Minor: num(5)}}, "-----,+", "deny a;allow c *:5 rwm"},
		{"block only", []spec.DeviceRule{deny, {Allow: true, Type: "b", Major: num(1), Minor: num(3)}}, "-----,-", "deny a;allow b 1:3 rwm"},
		{"no change", []spec.DeviceRule{deny, {Type: "c", Major: num(7)}, null}, "++-+-,-", "deny a;allow c 1:3 rw"},
		{"a hole", []spec.DeviceRule{deny, {Allow: true, Type: "c", Major: num(1)}, {Type: "c", Major: num(1), Minor: num(3)}}, "-----,+", ""},
		{"the default", DefaultDevices(), "+++++,+", "deny a;allow c *:* m;allow b *:* m;allow c 1:3 rwm;allow c 1:5 rwm;allow c 1:7 rwm;" +
			"allow c 1:8 rwm;allow c 1:9 rwm;allow c 5:0 rwm;allow c 5:1 rwm;allow c 5:2 rwm;allow c 136:* rwm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules, err := parseRules(test.rules)
			if err != nil {
				t.Fatal(err)
			}
			program := filterProgram(rules)
			null, zero, _ := strings.Cut(test.want, ",")
			for i, access := range []uint8{accessRead, accessWrite, accessMknod, accessRead | accessWrite, accessAll} {
				if got, want := run(t, program, 'c', 1, 3, access), null[i] == '+'; got != want {
					t.Errorf("null %s: %v, want %v", accessString(access), got, want)
				}
			}
			if got, want := run(t, program, 'c', 1, 5, accessRead), zero == "+"; got != want {
				t.Errorf("zero r: %v, want %v", got, want)
			}
			writes, err := planV1(rules)
			if test.v1 == "" {
				if !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
					t.Errorf("v1: got %v, want unsupported with a hint", err)
				}
				return
			}
			var got []string
			for _, w := range writes {
				got = append(got, strings.TrimPrefix(w.File, "/d/devices.")+" "+w.Value)
			}
			if s := strings.Join(got, ";"); s != test.v1 || err != nil {
				t.Errorf("v1: %s (%v)\nwant %s", s, err, test.v1)
			}
		})
	}
}

func TestRulesWrong(t *testing.T) {
	for _, r := range []spec.DeviceRule{
		{Type: "x"}, {Access: "rx"}, {Major: ptr[int64](-2)}, {Minor: ptr[int64](1 << 32)}, {Type: "cb"},
	} {
		if _, err := parseRules([]spec.DeviceRule{r}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", ruleWords(r), err)
		}
	}
}

// Whatever the rules, the program does what they mean; and v1, where it can say them, allows no
// more than they mean, and no less of any single access.
func TestRulesAny(t *testing.T) {
	number := rapid.SampledFrom([]int64{-1, 0, 1, 2, 1<<31 - 1})
	aRule := rapid.Custom(func(t *rapid.T) rule {
		return rule{
			allow:  rapid.Bool().Draw(t, "allow"),
			kind:   rapid.SampledFrom([]byte("abc")).Draw(t, "kind"),
			major:  number.Draw(t, "major"),
			minor:  number.Draw(t, "minor"),
			access: rapid.Uint8Range(1, accessAll).Draw(t, "access"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(aRule, 0, 8).Draw(t, "rules")
		program := filterProgram(rules)
		var list listV1
		writes, errV1 := planV1(rules)
		for _, w := range writes {
			list.write(t, w)
		}
		for _, kind := range []byte("bc") {
			for _, major := range []int64{0, 1, 2, 3, 1<<31 - 1} {
				for _, minor := range []int64{0, 1, 2, 3, 1<<31 - 1} {
					for access := uint8(1); access <= accessAll; access++ {
						want := allowed(rules, kind, major, minor, access)
						if got := run(t, program, kind, major, minor, access); got != want {
							t.Fatalf("%c %d:%d %s: %v, want %v", kind, major, minor, accessString(access), got, want)
						}
						if errV1 != nil {
							continue
						}
						got := list.allows(kind, major, minor, access)
						if single := access&(access-1) == 0; got && !want || single && got != want {
							t.Fatalf("v1: %c %d:%d %s: %v, want %v", kind, major, minor, accessString(access), got, want)
						}
					}
				}
			}
		}
	})
}

// tries are what the helper does to devices: an access, a kind and the numbers. All exist on
// every Linux; an unused loop device can be opened too.
var tries = []struct {
	access       uint8
	kind         byte
	major, minor int64
}{
	{accessRead, 'c', 1, 3}, {accessWrite, 'c', 1, 3}, {accessRead | accessWrite, 'c', 1, 3}, {accessMknod, 'c', 1, 3},
	{accessRead, 'c', 1, 5}, {accessWrite, 'c', 1, 5}, {accessMknod, 'c', 1, 5},
	{accessRead, 'c', 1, 9}, {accessMknod, 'c', 10, 200}, {accessMknod, 'b', 7, 0}, {accessRead, 'b', 7, 0},
}

func nodePath(dir string, kind byte, major, minor int64) string {
	return fmt.Sprintf("%s/%c%d_%d", dir, kind, major, minor)
}

func makeNode(name string, kind byte, major, minor int64) error {
	mode := map[byte]uint32{'c': unix.S_IFCHR, 'b': unix.S_IFBLK}[kind]
	return unix.Mknod(name, mode|0o600, int(unix.Mkdev(uint32(major), uint32(minor))))
}

// tryDevices is the helper: it prints a line for each of tries.
func tryDevices(dir string) int {
	for _, try := range tries {
		var err error
		name := nodePath(dir, try.kind, try.major, try.minor)
		if try.access == accessMknod {
			if err = makeNode(name+"-new", try.kind, try.major, try.minor); err == nil {
				os.Remove(name + "-new")
			}
		} else {
			flags := map[uint8]int{accessRead: unix.O_RDONLY, accessWrite: unix.O_WRONLY, accessRead | accessWrite: unix.O_RDWR}[try.access]
			var fd int
			if fd, err = unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
				unix.Close(fd)
			}
		}
		switch err {
		case nil:
			fmt.Println("+")
		case unix.EPERM:
			fmt.Println("-")
		default:
			fmt.Println(err)
		}
	}
	return 0
}

// The kernel itself: by v2 if the host has it, and by v1.
func TestDevices(t *testing.T) {
	h := realHost(t)
	v1 := h
	v1.V2 = Hierarchy{}
	num := func(n int64) *int64 { return &n }
	for _, way := range []struct {
		name string
		host Host
	}{{"host", h}, {"v1", v1}} {
		for name, rules := range map[string][]spec.DeviceRule{
			"default": DefaultDevices(),
			"nothing": {{}},
			"reading": {{}, {Allow: true, Type: "c", Major: num(1), Access: "r"}, {Allow: true, Type: "b", Major: num(7), Minor: num(0), Access: "rm"}},
			"but":     {{Allow: true}, {Type: "c", Major: num(1), Minor: num(3), Access: "w"}},
			"all":     {{Allow: true}},
		} {
			t.Run(way.name+"/"+name, func(t *testing.T) {
				if way.host.V2.Base == "" {
					need(t, way.host, "", "devices")
				}
				parsed, err := parseRules(rules)
				if err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				for _, try := range tries {
					node := nodePath(dir, try.kind, try.major, try.minor)
					if err := makeNode(node, try.kind, try.major, try.minor); err != nil && err != unix.EEXIST {
						t.Skip("needs device nodes: ", err)
					}
				}
				g := makeGroup(t, way.host, spec.Resources{Devices: rules}, false)
				p := startHelper(t, g, "open "+dir)
				fmt.Fprintln(p.in)
				for _, try := range tries {
					want := "-"
					if allowed(parsed, try.kind, try.major, try.minor, try.access) {
						want = "+"
					}
					line, _ := p.out.ReadString('\n')
					if got := strings.TrimSpace(line); got != want {
						t.Errorf("%s of %c %d:%d: %s, want %s", accessString(try.access), try.kind, try.major, try.minor, got, want)
					}
				}
			})
		}
	}
}

// The keeper's name changes with the program, or a new version would use the old one's.
func TestKeepName(t *testing.T) {
	rules, err := parseRules(DefaultDevices())
	if err != nil {
		t.Fatal(err)
	}
	h := fnv.New64a()
	for _, i := range filterProgram(rules) {
		binary.Write(h, binary.LittleEndian, i)
	}
	if want := fmt.Sprintf("device-filter-%x", h.Sum64()); keepName != want {
		t.Errorf("the program has changed: name its keeper %s", want)
	}
}

// The program of the default rules is compiled once and taken from its keeper from then on.
func TestFilterKept(t *testing.T) {
	h := realHost(t)
	if h.V2.Base == "" {
		t.Skip("needs cgroup v2")
	}
	r := spec.Resources{Devices: DefaultDevices()}
	makeGroup(t, h, r, false)
	p, err := New(h, Request{Resources: r, Parent: testParent, ID: groupName(t) + "_2"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Filter.Keep == "" || path.Dir(p.Filter.Keep) != path.Join(h.V2.Mount, DefaultParent) {
		t.Fatalf("kept in %q", p.Filter.Keep)
	}
	keep, err := open(p.Filter.Keep, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(keep)
	prog, err := kernel.BPFAttached(keep, unix.BPF_CGROUP_DEVICE)
	if err != nil || prog < 0 {
		t.Fatalf("the keeper has program %d, %v", prog, err)
	}
	unix.Close(prog)
	p.Filter.Rules = []spec.DeviceRule{{Type: "wrong"}} // not looked at any more
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	if err := p.Group.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}
