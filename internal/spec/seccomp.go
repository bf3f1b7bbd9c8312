package spec

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Seccomp is which system calls a container may make: the linux.seccomp object of the OCI
// runtime specification 1.3 (config-linux.md, "Seccomp"), with the same JSON.
type Seccomp struct {
	DefaultAction    SeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint         `json:"defaultErrnoRet,omitempty"` // for ActErrno and ActTrace; nil: EPERM
	Architectures    []SeccompArch `json:"architectures,omitempty"`   // what may be called besides the native ABI, which may always
	Flags            []SeccompFlag `json:"flags,omitzero"`            // nil: FlagSpecAllow; empty: none
	ListenerPath     string        `json:"listenerPath,omitempty"`    // a Unix socket; needed for ActNotify
	ListenerMetadata string        `json:"listenerMetadata,omitempty"`
	Syscalls         []SeccompRule `json:"syscalls,omitempty"`
}

// SeccompRule is what happens to calls of Names whose arguments meet all of Args.
type SeccompRule struct {
	Names    []string      `json:"names"`
	Action   SeccompAction `json:"action"`
	ErrnoRet *uint         `json:"errnoRet,omitempty"` // for ActErrno and ActTrace; nil: EPERM
	Args     []SeccompArg  `json:"args,omitempty"`
}

// SeccompArg is one condition on an argument. For OpMaskedEqual Value is the mask and
// ValueTwo what the masked argument must be; no other operator uses ValueTwo.
type SeccompArg struct {
	Index    uint      `json:"index"` // 0 to 5
	Value    uint64    `json:"value"`
	ValueTwo uint64    `json:"valueTwo,omitempty"`
	Op       SeccompOp `json:"op"`
}

// SeccompAction is what the kernel does with a call, seccomp(2) "Filters".
type SeccompAction string

// The actions. ActKill is an old name of ActKillThread.
const (
	ActKill        SeccompAction = "SCMP_ACT_KILL"
	ActKillProcess SeccompAction = "SCMP_ACT_KILL_PROCESS"
	ActKillThread  SeccompAction = "SCMP_ACT_KILL_THREAD"
	ActTrap        SeccompAction = "SCMP_ACT_TRAP"
	ActErrno       SeccompAction = "SCMP_ACT_ERRNO"
	ActTrace       SeccompAction = "SCMP_ACT_TRACE"
	ActAllow       SeccompAction = "SCMP_ACT_ALLOW"
	ActLog         SeccompAction = "SCMP_ACT_LOG"
	ActNotify      SeccompAction = "SCMP_ACT_NOTIFY"
)

// SeccompOp compares an argument, as an unsigned number, with a value.
type SeccompOp string

// The operators.
const (
	OpNotEqual     SeccompOp = "SCMP_CMP_NE"
	OpLess         SeccompOp = "SCMP_CMP_LT"
	OpLessEqual    SeccompOp = "SCMP_CMP_LE"
	OpEqual        SeccompOp = "SCMP_CMP_EQ"
	OpGreaterEqual SeccompOp = "SCMP_CMP_GE"
	OpGreater      SeccompOp = "SCMP_CMP_GT"
	OpMaskedEqual  SeccompOp = "SCMP_CMP_MASKED_EQ"
)

// SeccompArch is an ABI by libseccomp's name. The specification knows more than these; a
// profile may name them all, and those foreign to the host mean nothing there.
type SeccompArch string

// The ABIs that the hosts of Corten have.
const (
	ArchX86     SeccompArch = "SCMP_ARCH_X86"
	ArchX86_64  SeccompArch = "SCMP_ARCH_X86_64"
	ArchX32     SeccompArch = "SCMP_ARCH_X32"
	ArchARM     SeccompArch = "SCMP_ARCH_ARM"
	ArchAARCH64 SeccompArch = "SCMP_ARCH_AARCH64"
)

// SeccompFlag is a flag of seccomp(2), by the kernel's name.
type SeccompFlag string

// The flags.
const (
	FlagTSync            SeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"              // Linux 3.17
	FlagLog              SeccompFlag = "SECCOMP_FILTER_FLAG_LOG"                // Linux 4.14
	FlagSpecAllow        SeccompFlag = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"         // Linux 4.17
	FlagWaitKillableRecv SeccompFlag = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" // Linux 5.19
)

// SeccompHost is what a rule of Docker's format can be made to depend on.
type SeccompHost struct {
	Arch   string   // amd64 or arm64
	Caps   []string // the container's bounding set: "CAP_CHOWN"
	Kernel string   // uname's release: "6.12.9-cloud-amd64"; only the first two numbers count
}

// dockerSeccomp is Docker's profile format: the specification's, with a map of
// architectures instead of a list, and rules that hold only on some hosts and for some
// sets of capabilities.
type dockerSeccomp struct {
	Seccomp
	ArchMap []struct {
		Arch SeccompArch   `json:"architecture"`
		Subs []SeccompArch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls []dockerRule `json:"syscalls"`
}

type dockerRule struct {
	SeccompRule
	Name     string       `json:"name"` // the oldest form: one rule for each call
	Includes dockerFilter `json:"includes"`
	Excludes dockerFilter `json:"excludes"`
}

type dockerFilter struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"` // Docker's own names, which are Go's: "amd64"
	MinKernel string   `json:"minKernel"`
}

// ParseSeccomp reads a profile in the specification's form or in Docker's. What depends on
// the host or on capabilities is decided here, for on. Fields that neither form knows are
// passed over, as the specification asks (config.md, "Extensibility"). Whether the words
// in it make sense is for the compiler to say.
func ParseSeccomp(data []byte, on SeccompHost) (*Seccomp, error) {
	const op = "read seccomp profile"
	var d dockerSeccomp
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, errs.New(errs.Invalid, op, "", err)
	}
	if d.DefaultAction == "" {
		return nil, errs.Newf(errs.Invalid, op, "", "no defaultAction").
			WithHint("for no filter at all, say so with seccomp=unconfined")
	}
	if len(d.Architectures) > 0 && len(d.ArchMap) > 0 {
		return nil, errs.Newf(errs.Invalid, op, "", "both architectures and archMap are given")
	}
	p := d.Seccomp
	for _, m := range d.ArchMap {
		if m.Arch == nativeSeccompArch(on.Arch) {
			p.Architectures = append([]SeccompArch{m.Arch}, m.Subs...)
			break
		}
	}
	for i, r := range d.Syscalls {
		keep, err := r.holds(on)
		if err != nil {
			return nil, errs.Wrap(op, "syscalls["+strconv.Itoa(i)+"]", err)
		}
		if r.Name != "" && len(r.Names) > 0 {
			return nil, errs.Newf(errs.Invalid, op, "syscalls["+strconv.Itoa(i)+"]", "both name and names are given")
		}
		if !keep {
			continue
		}
		if r.Name != "" {
			r.Names = []string{r.Name}
		}
		p.Syscalls = append(p.Syscalls, r.SeccompRule)
	}
	return &p, nil
}

func nativeSeccompArch(goarch string) SeccompArch {
	switch goarch {
	case "amd64":
		return ArchX86_64
	case "arm64":
		return ArchAARCH64
	}
	return ""
}

// holds says whether the rule is meant for on: every capability that it includes must be
// there, and one that it excludes is enough to drop it.
func (r *dockerRule) holds(on SeccompHost) (bool, error) {
	in, ex := &r.Includes, &r.Excludes
	has := func(c string) bool { return slices.Contains(on.Caps, c) }
	lacks := func(c string) bool { return !has(c) }
	if slices.Contains(ex.Arches, on.Arch) || slices.ContainsFunc(ex.Caps, has) {
		return false, nil
	}
	if len(in.Arches) > 0 && !slices.Contains(in.Arches, on.Arch) || slices.ContainsFunc(in.Caps, lacks) {
		return false, nil
	}
	if ex.MinKernel != "" {
		if least, err := kernelAtLeast(on.Kernel, ex.MinKernel); err != nil || least {
			return false, err
		}
	}
	if in.MinKernel != "" {
		return kernelAtLeast(on.Kernel, in.MinKernel)
	}
	return true, nil
}

// kernelAtLeast compares the first two numbers of a release with a "major.minor".
func kernelAtLeast(release, least string) (bool, error) {
	a1, a2, ok := twoNumbers(release)
	if !ok {
		return false, errs.Newf(errs.Invalid, "read kernel release", strconv.Quote(release), "want two numbers with a point between")
	}
	b1, b2, ok := twoNumbers(least)
	if !ok {
		return false, errs.Newf(errs.Invalid, "read minKernel", strconv.Quote(least), "want two numbers with a point between")
	}
	return a1 > b1 || a1 == b1 && a2 >= b2, nil
}

func twoNumbers(s string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(s, ".")
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(rest[:digits])
	return major, minor, err1 == nil && err2 == nil
}
