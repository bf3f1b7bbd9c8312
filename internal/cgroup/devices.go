package cgroup

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/spec"
)

// DefaultDevices are the rules of a container that is given no devices, the same as Docker's:
// any node may be made, for an image or a backup may hold one, but only harmless ones opened.
func DefaultDevices() []spec.DeviceRule {
	rules := make([]spec.DeviceRule, 0, 16)
	rules = append(rules, spec.DeviceRule{},
		spec.DeviceRule{Allow: true, Type: "c", Access: "m"},
		spec.DeviceRule{Allow: true, Type: "b", Access: "m"})
	for _, d := range [...][2]int64{
		{1, 3},    // null
		{1, 5},    // zero
		{1, 7},    // full
		{1, 8},    // random
		{1, 9},    // urandom
		{5, 0},    // tty
		{5, 1},    // console
		{5, 2},    // ptmx
		{136, -1}, // pts/*
	} {
		rules = append(rules, spec.DeviceRule{Allow: true, Type: "c", Major: &d[0], Minor: &d[1]})
	}
	return rules
}

// Bits of device access, as BPF_DEVCG_ACC_* has them.
const (
	accessMknod = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

// rule is a checked device rule.
type rule struct {
	allow        bool
	kind         byte  // 'c', 'b', 'a' for both
	major, minor int64 // -1: all
	access       uint8
}

// parseRules checks rules and leaves out those before the last one that speaks of every
// device and every access: nothing is left of them.
func parseRules(rules []spec.DeviceRule) ([]rule, error) {
	parsed := make([]rule, 0, len(rules))
	for _, r := range rules {
		p, err := parseRule(r)
		if err != nil {
			return nil, err
		}
		if p.total() {
			parsed = parsed[:0]
		}
		parsed = append(parsed, p)
	}
	return parsed, nil
}

func parseRule(r spec.DeviceRule) (rule, error) {
	p := rule{allow: r.Allow, kind: 'a', major: -1, minor: -1}
	bad := func(text string) (rule, error) {
		return rule{}, errs.Newf(errs.Invalid, "filter devices", ruleWords(r), text)
	}
	switch r.Type {
	case "", "a":
	case "b", "c":
		p.kind = r.Type[0]
	default:
		return bad(`a type is "c", "b" or "a"`)
	}
	for _, n := range [...]struct {
		from *int64
		to   *int64
	}{{r.Major, &p.major}, {r.Minor, &p.minor}} {
		if n.from != nil {
			*n.to = *n.from
		}
		if *n.to < -1 || *n.to > 1<<31-1 {
			return bad("a device number is 0 to 2147483647, or -1 for all")
		}
	}
	for _, c := range r.Access {
		switch c {
		case 'm':
			p.access |= accessMknod
		case 'r':
			p.access |= accessRead
		case 'w':
			p.access |= accessWrite
		default:
			return bad(`an access is made of "r", "w" and "m"`)
		}
	}
	if r.Access == "" {
		p.access = accessAll
	}
	return p, nil
}

// total reports whether a rule speaks of every device and every access.
func (r rule) total() bool {
	return r.kind == 'a' && r.major < 0 && r.minor < 0 && r.access == accessAll
}

// sameDevices reports whether two rules speak of the same devices, meets whether of a common one.
func (r rule) sameDevices(o rule) bool {
	return r.kind == o.kind && r.major == o.major && r.minor == o.minor
}

func (r rule) meets(o rule) bool {
	return (r.kind == o.kind || r.kind == 'a' || o.kind == 'a') &&
		(r.major == o.major || r.major < 0 || o.major < 0) &&
		(r.minor == o.minor || r.minor < 0 || o.minor < 0)
}

// String is the form that v1 reads: "c 1:3 rwm".
func (r rule) String() string {
	star := func(n int64) string {
		if n < 0 {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return string(r.kind) + " " + star(r.major) + ":" + star(r.minor) + " " + accessString(r.access)
}

func accessString(access uint8) string {
	s := ""
	if access&accessRead != 0 {
		s += "r"
	}
	if access&accessWrite != 0 {
		s += "w"
	}
	if access&accessMknod != 0 {
		s += "m"
	}
	return s
}

// ruleWords is a rule for people, also one that is wrong.
func ruleWords(r spec.DeviceRule) string {
	star := func(n *int64) string {
		if n == nil || *n == -1 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	words, kind, access := "deny ", r.Type, r.Access
	if r.Allow {
		words = "allow "
	}
	if kind == "" {
		kind = "a"
	}
	if access == "" {
		access = "rwm"
	}
	return words + kind + " " + star(r.Major) + ":" + star(r.Minor) + " " + access
}

// Filter is a device filter for a v2 group.
type Filter struct {
	Dir   string            `json:"dir"`
	Rules []spec.DeviceRule `json:"rules"`          // nil: no filter
	Keep  string            `json:"keep,omitempty"` // an empty group that keeps the program; see attach
}

func (f Filter) String() string {
	rules := make([]string, 0, len(f.Rules))
	for _, r := range f.Rules {
		rules = append(rules, ruleWords(r))
	}
	words := "filter devices by a program on " + f.Dir + ": " + strings.Join(rules, ", ")
	if f.Keep != "" {
		words += "; keep it on " + f.Keep
	}
	return words
}

// devices plans the filter: a program on the v2 group, or the v1 controller. Only the host's
// root may load a program; others cannot make device nodes either, so nothing is lost without.
func (b *builder) devices(rules []spec.DeviceRule) error {
	if rules == nil || b.update {
		return nil
	}
	parsed, err := parseRules(rules)
	if err != nil {
		return err
	}
	if !b.host.Root || (len(parsed) == 1 && parsed[0].total() && parsed[0].allow) {
		return nil
	}
	if b.plan.V2 != "" {
		b.plan.Filter = Filter{Dir: b.plan.V2, Rules: rules}
		if usual, _ := parseRules(DefaultDevices()); slices.Equal(parsed, usual) {
			b.plan.Filter.Keep = path.Join(b.host.V2.Mount, b.host.V2.Base, DefaultParent, keepName)
		}
		return nil
	}
	s, err := b.use("filter devices", "", "devices")
	if err != nil {
		return err
	}
	return b.devicesV1(s, parsed)
}

// keepName is the group that keeps the program of DefaultDevices. It is named after the
// program, so that another version's is not mistaken for it; a test holds the name to that.
const keepName = "device-filter-73ebe504d346a16f"

// devicesV1 writes rules for the v1 controller. It holds one default and a list of exceptions
// from it, all of one sort, and takes an exception back only as it was given: a rule that
// cuts a hole into an earlier exception cannot be said.
func (b *builder) devicesV1(s site, rules []rule) error {
	standing := false // what no rule speaks of is denied
	if len(rules) > 0 && rules[0].total() {
		standing, rules = rules[0].allow, rules[1:]
	}
	files := map[bool]string{true: s.file("devices.allow"), false: s.file("devices.deny")}
	words := map[bool]string{true: "allow devices ", false: "deny devices "}
	b.write(Write{File: files[standing], Value: "a", Why: words[standing] + "by default"})
	var exceptions []rule
	for _, r := range eachKind(rules) {
		if r.allow != standing {
			exceptions = append(exceptions, r)
			b.write(Write{File: files[r.allow], Value: r.String(), Why: words[r.allow] + r.String()})
			continue
		}
		taken := false
		for i, x := range exceptions {
			if !x.meets(r) || x.access&r.access == 0 {
				continue
			}
			if !x.sameDevices(r) {
				return errs.Newf(errs.Unsupported, "filter devices", words[r.allow]+r.String(),
					"cgroup v1 cannot except it from: "+words[x.allow]+x.String()).
					WithHint("leave the rule out, or name the devices one by one")
			}
			exceptions[i].access &^= r.access
			taken = true
		}
		if taken {
			b.write(Write{File: files[r.allow], Value: r.String(), Why: words[r.allow] + r.String()})
		}
	}
	return nil
}

// eachKind splits rules for both kinds of device: v1 takes an "a" for all there is, whatever
// numbers follow it.
func eachKind(rules []rule) []rule {
	var split []rule
	for _, r := range rules {
		if r.kind != 'a' {
			split = append(split, r)
			continue
		}
		for _, kind := range [...]byte{'b', 'c'} {
			r.kind = kind
			split = append(split, r)
		}
	}
	return split
}

// Registers of the filter program. R0 returns, R1 comes in with the context.
const (
	regReturn = iota
	regContext
	regKind
	regAccess
	regMajor
	regMinor
)

// Instructions, from the eBPF instruction set. Jumps compare 32 bits (Linux 5.1): device
// numbers would be sign-extended as 64.
func load(dst uint8, off int16) kernel.BPFInsn {
	return kernel.BPFInsn{Op: unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, Regs: dst | regContext<<4, Off: off}
}

func alu(op, dst uint8, imm int32) kernel.BPFInsn {
	return kernel.BPFInsn{Op: unix.BPF_ALU | op | unix.BPF_K, Regs: dst, Imm: imm}
}

func jump(op, reg uint8, imm int32, off int) kernel.BPFInsn {
	return kernel.BPFInsn{Op: unix.BPF_JMP32 | op | unix.BPF_K, Regs: reg, Off: int16(off), Imm: imm}
}

func exit(value int32) []kernel.BPFInsn {
	return []kernel.BPFInsn{alu(unix.BPF_MOV, regReturn, value), {Op: unix.BPF_JMP | unix.BPF_EXIT}}
}

// Device kinds, as BPF_DEVCG_DEV_* has them.
const (
	kindBlock = 1
	kindChar  = 2
)

// filterProgram compiles rules to a program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15).
// The kernel hands it struct bpf_cgroup_dev_ctx {access<<16 | kind, major, minor} and lets the
// access pass if it returns 1.
//
// For each bit of the access, the last rule that speaks of the device and the bit decides; all bits
// have to be allowed. So rules are asked from the last to the first: one that denies a bit
// still open ends it, one that allows takes its bits off, and when none is left it is over.
func filterProgram(rules []rule) []kernel.BPFInsn {
	insns := []kernel.BPFInsn{
		load(regKind, 0),
		load(regAccess, 0),
		load(regMajor, 4),
		load(regMinor, 8),
		alu(unix.BPF_AND, regKind, 0xffff),
		alu(unix.BPF_RSH, regAccess, 16),
	}
	for i := len(rules) - 1; i >= 0; i-- {
		insns = append(insns, ruleProgram(rules[i])...)
	}
	return append(insns, exit(0)...)
}

// ruleProgram is one rule; the program goes on behind it if the rule does not decide.
func ruleProgram(r rule) []kernel.BPFInsn {
	var verdict []kernel.BPFInsn
	if r.allow {
		verdict = append(verdict,
			alu(unix.BPF_AND, regAccess, int32(accessAll&^r.access)),
			jump(unix.BPF_JNE, regAccess, 0, 2))
		verdict = append(verdict, exit(1)...)
	} else {
		verdict = append(verdict,
			jump(unix.BPF_JSET, regAccess, int32(r.access), 1),
			kernel.BPFInsn{Op: unix.BPF_JMP | unix.BPF_JA, Off: 2})
		verdict = append(verdict, exit(0)...)
	}
	var tests []kernel.BPFInsn
	test := func(reg uint8, want int64) {
		tests = append(tests, jump(unix.BPF_JNE, reg, int32(want), 0))
	}
	switch r.kind {
	case 'b':
		test(regKind, kindBlock)
	case 'c':
		test(regKind, kindChar)
	}
	if r.major >= 0 {
		test(regMajor, r.major)
	}
	if r.minor >= 0 {
		test(regMinor, r.minor)
	}
	for i := range tests {
		tests[i].Off = int16(len(tests) - 1 - i + len(verdict))
	}
	return append(tests, verdict...)
}

// attach attaches the filter to the container's v2 group. Programs of the groups above stay in
// force: an access has to pass all (BPF_F_ALLOW_MULTI).
//
// To verify and compile a program takes the kernel 300 us, and to attach the first of a
// machine 70 us more, which patches the kernel's own code. So the program of most
// containers is kept by an empty group, Keep, from which each start takes it in 8 us. A
// Keep without the program, as a start that was cut short leaves it, is given one.
func (f Filter) attach() error {
	group, err := open(f.Dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return filterError(err)
	}
	defer unix.Close(group)
	prog, err := f.program()
	if errs.Is(err, errs.Denied) && nested() {
		return nil // as for a caller who is not root: see devices
	}
	if err != nil {
		return err
	}
	defer unix.Close(prog)
	if err := kernel.BPFAttach(group, prog, unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI); err != nil {
		return filterError(err)
	}
	return nil
}

// program is a descriptor of the compiled filter.
func (f Filter) program() (int, error) {
	keep := -1
	if f.Keep != "" {
		var err error
		if keep, err = f.openKeep(); err == nil {
			defer unix.Close(keep)
			if prog, err := kernel.BPFAttached(keep, unix.BPF_CGROUP_DEVICE); err == nil && prog >= 0 {
				return prog, nil
			}
		}
	}
	parsed, err := parseRules(f.Rules)
	if err != nil {
		return -1, err
	}
	prog, err := kernel.BPFLoad(unix.BPF_PROG_TYPE_CGROUP_DEVICE, "corten_devices", filterProgram(parsed))
	if err != nil {
		return -1, filterError(err)
	}
	if keep >= 0 {
		// Without BPF_F_ALLOW_MULTI it takes the place of what another start attached just now.
		// If it cannot be kept, the next start loads it again.
		_ = kernel.BPFAttach(keep, prog, unix.BPF_CGROUP_DEVICE, 0)
	}
	return prog, nil
}

func (f Filter) openKeep() (int, error) {
	fd, err := open(f.Keep, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	if err := makeParents(f.Keep); err != nil {
		return -1, err
	}
	return open(f.Keep, unix.O_PATH|unix.O_DIRECTORY)
}

// nested reports whether the caller is in a user namespace, user_namespaces(7): root there is
// an ordinary user of the host.
func nested() bool {
	ids, err := readFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(ids), []string{"0", "0", "4294967295"})
}

func filterError(err error) error {
	e := errs.New(errs.Other, "filter devices", "", err)
	switch err {
	case unix.ENOSYS, unix.EINVAL:
		e.Kind = errs.Unsupported
		e.Hint = "the kernel needs CONFIG_CGROUP_BPF and Linux 5.1"
	case unix.EPERM:
		e.Kind = errs.Denied
		e.Hint = "the caller needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, on the host"
	}
	return e
}
