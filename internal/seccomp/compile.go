package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// What a filter returns for each action (linux/seccomp.h, SECCOMP_RET_*). As signed
// numbers the smaller is the stricter.
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	retAction = 0xffff0000 // the part of it that is the action; the rest is its number
	maxErrno  = 4095       // the kernel cuts off larger ones (linux/err.h, MAX_ERRNO)
)

const compileOp = "compile seccomp profile"

// maxWarnings is more than anybody reads.
const maxWarnings = 50

// clause is what one rule says about a call.
type clause struct {
	ret   uint32
	conds []cond // all must be met; sorted by argument
}

// cond compares an argument with val, under mask if op is OpMaskedEqual.
type cond struct {
	arg       uint
	op        spec.SeccompOp
	val, mask uint64
}

// use is one call that a clause is about.
type use struct {
	nr     uint32
	clause int
}

// span is a run of numbers, up to the next span, that are answered alike.
type span struct {
	from uint32
	verdict
}

// verdict is an answer, or, if chain is not 0, the clauses that lead to one: those of
// compiler.chains[chain-1].
type verdict struct {
	ret   uint32
	chain int
}

type compiler struct {
	def      uint32
	entries  []entry
	open     [abiCount]bool
	top      [abiCount]int32 // the highest number that the profile names; -1: none
	uses     [abiCount][]use
	clauses  []clause
	chains   [][]int // indexes into clauses, in the order in which they are tried
	notify   bool
	warnings []string
}

// Compile turns the profile p into a program for host.
func Compile(p *spec.Seccomp, host Arch) (Program, error) {
	c := compiler{entries: host.entries(), top: [abiCount]int32{-1, -1, -1, -1, -1}}
	if err := c.read(p); err != nil {
		return Program{}, err
	}
	flags, err := c.flags(p.Flags)
	if err != nil {
		return Program{}, err
	}
	insns := c.assemble()
	if len(insns) > MaxInsns {
		return Program{}, errs.Newf(errs.Invalid, compileOp, "",
			fmt.Sprintf("it comes to %d instructions, and Linux takes %d", len(insns), MaxInsns)).
			WithHint("take out conditions on arguments, or ABIs that the container does not need")
	}
	return Program{Insns: insns, Flags: flags, Warnings: c.warnings}, nil
}

func invalid(object string, err error) error {
	return errs.New(errs.Invalid, compileOp, object, err).
		WithHint(`the words of a profile are listed in the OCI runtime specification, config-linux.md, "Seccomp"`)
}

func (c *compiler) warn(format string, args ...any) {
	if len(c.warnings) == maxWarnings {
		return
	}
	if w := fmt.Sprintf(format, args...); !slices.Contains(c.warnings, w) {
		c.warnings = append(c.warnings, w)
	}
}

// read checks the profile and notes what it says about each number.
func (c *compiler) read(p *spec.Seccomp) error {
	var err error
	if c.def, err = answer(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return invalid("default action", err)
	}
	if c.def == retNotify {
		return errs.Newf(errs.Invalid, compileOp, "default action",
			string(spec.ActNotify)+" would hold up the container's first system call before anybody can answer it").
			WithHint("give that action to the system calls that it is meant for")
	}
	if err := c.readArches(p.Architectures); err != nil {
		return err
	}
	for i := range p.Syscalls {
		if err := c.readRule(&p.Syscalls[i]); err != nil {
			object := "rule " + strconv.Itoa(i+1)
			if len(p.Syscalls[i].Names) > 0 {
				object += " (" + p.Syscalls[i].Names[0] + ")"
			}
			return invalid(object, err)
		}
	}
	if c.notify && p.ListenerPath == "" {
		return errs.Newf(errs.Invalid, compileOp, "", string(spec.ActNotify)+" without a listenerPath: nobody would answer").
			WithHint("set listenerPath to the socket of a seccomp agent")
	}
	return nil
}

// readArches opens the native ABI and those that the profile names. Names of ABIs that
// the host does not have mean nothing.
func (c *compiler) readArches(arches []spec.SeccompArch) error {
	c.open[c.entries[0].abi] = true
	for _, name := range arches {
		if !knownArch(name) {
			return invalid("", fmt.Errorf("unknown architecture %q", name))
		}
		for _, e := range c.entries {
			if e.name == name {
				c.open[e.abi] = true
			}
		}
	}
	return nil
}

func (c *compiler) readRule(r *spec.SeccompRule) error {
	ret, err := answer(r.Action, r.ErrnoRet)
	if err != nil {
		return err
	}
	if len(r.Names) == 0 {
		return fmt.Errorf("names no system call")
	}
	alternatives, err := conditions(r.Args)
	if err != nil {
		return err
	}
	if len(alternatives) > 1 {
		c.warn("%q: two conditions on one argument: either is enough", r.Names[0])
	}
	c.notify = c.notify || ret == retNotify
	first := len(c.clauses)
	for _, conds := range alternatives {
		c.clauses = append(c.clauses, clause{ret, conds})
	}
	last := len(c.clauses)
	for _, name := range r.Names {
		place, ok := find(name)
		if !ok {
			c.warn("%q: no such system call is known, and the rule for it has no effect", name)
			continue
		}
		for _, e := range c.entries {
			if !c.open[e.abi] {
				continue
			}
			if nr := numbers[e.abi][place]; nr >= 0 {
				c.note(e.abi, nr, ret, first, last)
			}
			if e.abi == x86 {
				c.noteMultiplexed(name, ret, len(r.Args) > 0)
			}
		}
	}
	return nil
}

// note adds the clauses from first up to last to those about number nr.
func (c *compiler) note(a abi, nr int32, ret uint32, first, last int) {
	c.top[a] = max(c.top[a], nr)
	if ret == c.def {
		return
	}
	for i := first; i < last; i++ {
		c.uses[a] = append(c.uses[a], use{uint32(nr), i})
	}
}

// noteMultiplexed carries a rule about a call that 32-bit x86 also, or only, makes through
// socketcall or ipc over to those. What the rule asks of the arguments cannot be seen
// there: then it is carried over if it is stricter than the default, and left out if not.
func (c *compiler) noteMultiplexed(name string, ret uint32, hasConds bool) {
	by, call := multiplexer(name)
	if by == "" || hasConds && int32(ret&retAction) >= int32(c.def&retAction) {
		return
	}
	// ipc has a version in the upper half of the same argument.
	conds := []cond{{arg: 0, op: spec.OpMaskedEqual, val: call, mask: 0xffff}}
	if by == "socketcall" {
		conds[0].mask = low32
	}
	place, _ := find(by)
	c.clauses = append(c.clauses, clause{ret, conds})
	c.note(x86, numbers[x86][place], ret, len(c.clauses)-1, len(c.clauses))
}

// answer is what a filter returns for an action.
func answer(a spec.SeccompAction, errno *uint) (uint32, error) {
	number, limit := uint(eperm), uint(0)
	var ret uint32
	switch a {
	case spec.ActKillProcess:
		ret = retKillProcess
	case spec.ActKill, spec.ActKillThread:
		ret = retKillThread
	case spec.ActTrap:
		ret = retTrap
	case spec.ActErrno:
		ret, limit = retErrno, maxErrno
	case spec.ActTrace:
		ret, limit = retTrace, 0xffff
	case spec.ActAllow:
		ret = retAllow
	case spec.ActLog:
		ret = retLog
	case spec.ActNotify:
		ret = retNotify
	default:
		return 0, fmt.Errorf("unknown action %q", a)
	}
	if errno != nil {
		number = *errno
	}
	switch {
	case errno != nil && limit == 0:
		return 0, fmt.Errorf("%s has no errno", a)
	case limit == 0:
		return ret, nil
	case number > limit:
		return 0, fmt.Errorf("errno %d is above %d", number, limit)
	}
	return ret | uint32(number), nil
}

// conditions returns the alternatives that the arguments of a rule come to: one, unless
// two of its conditions are on the same argument; then each is one.
func conditions(args []spec.SeccompArg) ([][]cond, error) {
	var conds []cond
	var seen [6]bool
	twice := false
	for _, a := range args {
		if a.Index >= uint(len(seen)) {
			return nil, fmt.Errorf("argument %d: a system call has arguments 0 to 5", a.Index)
		}
		k := cond{arg: a.Index, op: a.Op, val: a.Value}
		switch a.Op {
		case spec.OpMaskedEqual:
			k.mask, k.val = a.Value, a.ValueTwo&a.Value
		case spec.OpEqual, spec.OpNotEqual, spec.OpLess, spec.OpLessEqual, spec.OpGreater, spec.OpGreaterEqual:
		default:
			return nil, fmt.Errorf("unknown operator %q", a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		conds = append(conds, k)
	}
	if !twice {
		slices.SortFunc(conds, func(a, b cond) int { return cmp.Compare(a.arg, b.arg) })
		return [][]cond{conds}, nil
	}
	var alternatives [][]cond
	for i := range conds {
		alternatives = append(alternatives, conds[i:i+1])
	}
	return alternatives, nil
}

// flags translates the profile's flags. Without any it is FlagSpecAllow, as in runc and
// crun: from Linux 5.16 on that is what the kernel does anyway.
func (c *compiler) flags(names []spec.SeccompFlag) (uint32, error) {
	if names == nil {
		names = []spec.SeccompFlag{spec.FlagSpecAllow}
	}
	var flags uint32
	for _, name := range names {
		switch name {
		case spec.FlagTSync:
			flags |= flagTSync
		case spec.FlagLog:
			flags |= flagLog
		case spec.FlagSpecAllow:
			flags |= flagSpecAllow
		case spec.FlagWaitKillableRecv:
			flags |= flagWaitKillableRecv
		default:
			return 0, invalid("", fmt.Errorf("unknown flag %q", name))
		}
	}
	// Linux refuses a listener together with TSYNC, for which a process about to exec
	// has no use, and WAIT_KILLABLE_RECV without one.
	if c.notify {
		flags = flags&^flagTSync | flagNewListener
	} else {
		flags &^= flagWaitKillableRecv
	}
	return flags, nil
}

// assemble writes the program: which ABI, then which number, then which arguments.
func (c *compiler) assemble() []Insn {
	var a assembler
	start := a.ret(retKillProcess)
	for end := len(c.entries); end > 0; {
		first := end - 1
		for first > 0 && c.entries[first-1].audit == c.entries[first].audit {
			first--
		}
		section := c.entries[first:end]
		if slices.ContainsFunc(section, func(e entry) bool { return c.open[e.abi] }) {
			spans := c.spans(section)
			a.begin(c, section[0].wide)
			numbered := a.load(offNumber, a.tree(spans))
			start = a.jump(opJEQ, section[0].audit, numbered, start)
		}
		end = first
	}
	a.load(offArch, start)
	slices.Reverse(a.code)
	return a.code
}

// spans returns the answers to all numbers of the ABIs in section, which the kernel calls
// by one audit value.
func (c *compiler) spans(section []entry) []span {
	var spans []span
	add := func(from uint32, v verdict) {
		if n := len(spans); n == 0 || spans[n-1].verdict != v {
			spans = append(spans, span{from, v})
		}
	}
	for _, e := range section {
		if !c.open[e.abi] {
			add(e.first, verdict{ret: retKillProcess})
			continue
		}
		uses := c.uses[e.abi]
		slices.SortStableFunc(uses, func(a, b use) int { return cmp.Compare(a.nr, b.nr) })
		next := e.first
		for i := 0; i < len(uses); {
			j := i
			for j < len(uses) && uses[j].nr == uses[i].nr {
				j++
			}
			if uses[i].nr > next {
				add(next, verdict{ret: c.def})
			}
			add(uses[i].nr, c.decide(uses[i:j]))
			next = uses[i].nr + 1
			i = j
		}
		if top := c.top[e.abi]; top >= 0 && c.refuses() {
			if next <= uint32(top) {
				add(next, verdict{ret: c.def})
			}
			add(uint32(top)+1, verdict{ret: retErrno | enosys})
		} else {
			add(next, verdict{ret: c.def})
		}
	}
	add(notACall, verdict{ret: retAllow})
	return spans
}

// refuses says whether the default action keeps a call from being made without asking
// anybody: all that are stricter than a tracer do.
func (c *compiler) refuses() bool { return c.def&retAction < retTrace || c.def == retKillProcess }

// decide returns the verdict of the clauses about one number.
func (c *compiler) decide(uses []use) verdict {
	chain := make([]int, 0, len(uses))
	for _, u := range uses {
		if k := c.clauses[u.clause]; len(k.conds) == 0 {
			return verdict{ret: k.ret}
		}
		chain = append(chain, u.clause)
	}
	slices.SortStableFunc(chain, func(a, b int) int {
		return compareConds(c.clauses[a].conds, c.clauses[b].conds)
	})
	for i, known := range c.chains {
		if slices.Equal(known, chain) {
			return verdict{chain: i + 1}
		}
	}
	c.chains = append(c.chains, chain)
	return verdict{chain: len(c.chains)}
}

// compareConds is the order in which two clauses about one call are tried. It is that of
// libseccomp's tree: the higher argument first; then an exact value before a bound from
// above before one from below; of two bounds the tighter; and a clause before those that
// ask the same and more.
func compareConds(a, b []cond) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if n := cmp.Or(cmp.Compare(y.arg, x.arg), cmp.Compare(opRank(x.op), opRank(y.op))); n != 0 {
			return n
		}
		n := cmp.Compare(y.val, x.val)
		if opRank(x.op) == 1 {
			n = -n
		}
		if n != 0 {
			return n
		}
	}
	return cmp.Compare(len(a), len(b))
}

func opRank(op spec.SeccompOp) int {
	switch op {
	case spec.OpLess, spec.OpLessEqual:
		return 1
	case spec.OpGreater, spec.OpGreaterEqual:
		return 2
	}
	return 0
}

// knownArch says whether the specification lists the architecture.
func knownArch(a spec.SeccompArch) bool {
	name, ok := strings.CutPrefix(string(a), "SCMP_ARCH_")
	if !ok {
		return false
	}
	switch name {
	case "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32",
		"PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB":
		return true
	}
	return false
}

// multiplexer returns the call by which 32-bit x86 makes the call name, and the number
// that stands for it there (linux/net.h, linux/ipc.h).
func multiplexer(name string) (by string, call uint64) {
	for i, n := range [...]string{"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername",
		"socketpair", "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg",
		"recvmsg", "accept4", "recvmmsg", "sendmmsg"} {
		if n == name {
			return "socketcall", uint64(i) + 1
		}
	}
	switch name {
	case "semop":
		return "ipc", 1
	case "semget":
		return "ipc", 2
	case "semctl":
		return "ipc", 3
	case "semtimedop":
		return "ipc", 4
	case "msgsnd":
		return "ipc", 11
	case "msgrcv":
		return "ipc", 12
	case "msgget":
		return "ipc", 13
	case "msgctl":
		return "ipc", 14
	case "shmat":
		return "ipc", 21
	case "shmdt":
		return "ipc", 22
	case "shmget":
		return "ipc", 23
	case "shmctl":
		return "ipc", 24
	}
	return "", 0
}
