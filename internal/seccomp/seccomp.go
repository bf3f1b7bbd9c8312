// Package seccomp is the filter of system calls that a container runs under.
//
// A filter begins as a profile, spec.Seccomp: read from a user's file, or Default, which
// is data with a reason beside each group of calls (groups.go; Describe prints it).
// Compile turns a profile into a Program of classic BPF for one kind of host. Programs
// are kept in files by Cached and DefaultCached, so that a container start neither makes
// the profile nor compiles it. Attaching the program is package launch's work: it is the
// last system call before exec.
//
// # What a program decides
//
// The kernel shows it the ABI, the number and the six argument registers of each call
// (seccomp(2), struct seccomp_data).
//
//   - A call of an ABI that the profile does not name kills the process. The native ABI is
//     always named; on amd64 the others are x32 and 32-bit x86, on arm64 32-bit ARM.
//   - Number -1 is allowed: it is no system call, but a tracer's mark for one to be skipped.
//   - A number above all that the profile names in this ABI is answered with ENOSYS where the
//     default action would refuse it, as runc does. Programs know from it that the kernel is
//     older than they are and take an older call; from EPERM they would not.
//   - Of the rules for a call, those whose action is the default action are passed over, as
//     runc and crun do. If one of the others has no conditions, the first such decides.
//     Otherwise they are tried in turn, those with the narrower condition first (see
//     compareConds), as libseccomp does; the first whose conditions are all met decides.
//   - All else gets the default action.
//
// Two conditions on one argument in one rule are two rules, again as runc and crun read
// it. Of the ABIs with 32-bit registers (not x32) only the lower halves of arguments and
// values are compared.
package seccomp

//go:generate go run ./gen table.go

import (
	"github.com/cortenhq/corten/internal/spec"
)

// Insn is one instruction of classic BPF, laid out as struct sock_filter
// (linux/filter.h), so that a slice of them is what seccomp(2) is given.
type Insn struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// MaxInsns is the length of the longest program that Linux takes (BPF_MAXINSNS).
const MaxInsns = 4096

// Program is a compiled profile.
type Program struct {
	Insns    []Insn
	Flags    uint32   // for seccomp(SECCOMP_SET_MODE_FILTER)
	Warnings []string // what in the profile had no effect, or another than it may seem
}

// The flags that seccomp(2) takes with SECCOMP_SET_MODE_FILTER.
const (
	flagTSync            = 1 << 0
	flagLog              = 1 << 1
	flagSpecAllow        = 1 << 2
	flagNewListener      = 1 << 3
	flagWaitKillableRecv = 1 << 5
)

// Notify says whether attaching the program returns a descriptor on which the calls with
// action spec.ActNotify wait for an answer.
func (p *Program) Notify() bool { return p.Flags&flagNewListener != 0 }

// Arch is a kind of host, by the ABI that its kernel is built for.
type Arch uint8

// The kinds of hosts.
const (
	AMD64 Arch = iota
	ARM64
)

func (a Arch) String() string {
	if a == ARM64 {
		return "arm64"
	}
	return "amd64"
}

// abi is a column of the table of numbers.
type abi uint8

const (
	x86_64 abi = iota
	x32
	x86
	aarch64
	arm
	abiCount
)

// entry describes how calls of an ABI look to a filter.
type entry struct {
	abi   abi
	name  spec.SeccompArch
	audit uint32 // AUDIT_ARCH_*: what the kernel calls it
	first uint32 // its numbers, which ABIs with the same audit value share out
	last  uint32
	wide  bool // its arguments have 64 bits
}

// notACall is the number by which a tracer marks a call to be skipped.
const notACall = 0xffffffff

// x32Bit is set in the number of every call of the x32 ABI, which is x86-64 in all else
// that a filter sees.
const x32Bit = 1 << 30

// entries are the ways into the kernel of a host: its native ABI, then the others.
func (a Arch) entries() []entry {
	if a == ARM64 {
		return []entry{
			{aarch64, spec.ArchAARCH64, 0xc00000b7, 0, notACall - 1, true},
			{arm, spec.ArchARM, 0x40000028, 0, notACall - 1, false},
		}
	}
	return []entry{
		{x86_64, spec.ArchX86_64, 0xc000003e, 0, x32Bit - 1, true},
		{x32, spec.ArchX32, 0xc000003e, x32Bit, notACall - 1, true},
		{x86, spec.ArchX86, 0x40000003, 0, notACall - 1, false},
	}
}

// find returns the place of name in the table.
func find(name string) (int, bool) {
	lo, hi := 0, nameCount
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := nameOf(mid); {
		case at == name:
			return mid, true
		case at < name:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

func nameOf(i int) string { return names[nameAt[i] : nameAt[i+1]-1] }
