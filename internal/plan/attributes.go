package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Steps that set how the kernel serves a process. Schedule and SetIOPriority are steps of the host for
// the first process of a container, when that waits in its control groups: what is more urgent than
// usual takes rights over the host, which a process in a user namespace has not. A further process
// takes them itself before it enters that.
type (
	// Schedule sets when the process gets a processor (sched_setattr(2)).
	Schedule struct {
		spec.Scheduler
	}

	// SetIOPriority sets when it gets a disk (ioprio_set(2)).
	SetIOPriority struct {
		spec.IOPriority
	}

	// RunOn sets the processors that it runs on (sched_setaffinity(2)).
	RunOn struct {
		CPUs string `json:"cpus"`
	}

	// UseMemory sets on which nodes it gets memory (set_mempolicy(2)).
	UseMemory struct {
		spec.MemoryPolicy
	}

	// SeeMachine sets what machine it sees (personality(2)).
	SeeMachine struct {
		Domain string `json:"domain"`
	}
)

func (Schedule) Kind() string      { return "schedule" }
func (SetIOPriority) Kind() string { return "io-priority" }
func (RunOn) Kind() string         { return "run-on" }
func (UseMemory) Kind() string     { return "use-memory" }
func (SeeMachine) Kind() string    { return "see-machine" }

func (s Schedule) String() string {
	words := "schedule it by " + s.Policy
	for _, x := range []struct {
		name  string
		value int64
	}{{"nice", int64(s.Nice)}, {"priority", int64(s.Priority)}} {
		if x.value != 0 {
			words += fmt.Sprintf(", %s %d", x.name, x.value)
		}
	}
	if s.Period != 0 || s.Deadline != 0 {
		words += fmt.Sprintf(", %d ns before the deadline of %d ns of every %d ns", s.Runtime, s.Deadline, s.Period)
	}
	if len(s.Flags) > 0 {
		words += " (" + strings.Join(s.Flags, ", ") + ")"
	}
	return words
}

func (s SetIOPriority) String() string {
	return fmt.Sprintf("serve its disk requests by %s, priority %d", s.Class, s.Priority)
}
func (s RunOn) String() string { return "run on the processors " + s.CPUs }

func (s UseMemory) String() string {
	words := "take memory by " + s.Mode
	if s.Nodes != "" {
		words += " on the nodes " + s.Nodes
	}
	if len(s.Flags) > 0 {
		words += " (" + strings.Join(s.Flags, ", ") + ")"
	}
	return words
}
func (s SeeMachine) String() string { return "see a machine of the personality " + s.Domain }

// Served is the steps of attributes that take rights over the host.
func Served(a spec.Attributes) (list []Step) {
	if a.Scheduler != nil {
		list = append(list, Schedule{*a.Scheduler})
	}
	if a.IOPriority != nil {
		list = append(list, SetIOPriority{*a.IOPriority})
	}
	return list
}

// Seen is the steps of those that any process may take.
func Seen(a spec.Attributes) (list []Step) {
	if a.Memory != nil {
		list = append(list, UseMemory{*a.Memory})
	}
	if a.Personality != nil {
		list = append(list, SeeMachine{a.Personality.Domain})
	}
	return list
}

// The words of a process's attributes by their numbers for the kernel: <linux/sched.h>,
// <linux/ioprio.h>, <linux/mempolicy.h>. Flags are by the number of their bit.
func policies() []string {
	return []string{"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"}
}

func policyFlags() []string {
	return []string{"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
		"SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"}
}

func ioClasses() []string {
	return []string{"", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"}
}

// MemoryModes is the modes of memory policies.
func MemoryModes() []string {
	return []string{"MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"}
}

// MemoryFlags is the flags of memory policies, from firstMemoryFlag on.
func MemoryFlags() []string {
	return []string{"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"}
}

const firstMemoryFlag = 13

// number is the place of a word in a list of all there are.
func number(word string, list []string) (int, error) {
	if n := slices.Index(list, word); n >= 0 && word != "" {
		return n, nil
	}
	return 0, errs.Newf(errs.Invalid, "", "", strconv.Quote(word)+" is none").
		WithHint("there are " + strings.TrimPrefix(strings.Join(list, ", "), ", "))
}

func flagBits(words, list []string) (mask uint64, err error) {
	for _, w := range words {
		n, err := number(w, list)
		if err != nil {
			return 0, err
		}
		mask |= 1 << n
	}
	return mask, nil
}

// Numbers is a policy and its flags as the kernel knows them. What the policy has no use for is an
// error: the kernel would pass over it.
func (s Schedule) Numbers() (policy uint32, flags uint64, err error) {
	n, err := number(s.Policy, policies())
	if err != nil {
		return 0, 0, err
	}
	fail := func(why, hint string) (uint32, uint64, error) {
		return 0, 0, errs.Newf(errs.Invalid, "", "", why).WithHint(hint)
	}
	realtime := s.Policy == "SCHED_FIFO" || s.Policy == "SCHED_RR"
	switch {
	case s.Nice < -20 || s.Nice > 19:
		return fail(fmt.Sprintf("nice %d is none", s.Nice), "-20, the most urgent, to 19 are")
	case s.Priority != 0 && !realtime:
		return fail(s.Policy+" has no priority", "SCHED_FIFO and SCHED_RR have; nice is that of the others")
	case realtime && (s.Priority < 1 || s.Priority > 99):
		return fail(fmt.Sprintf("priority %d is none of %s", s.Priority, s.Policy), "1 to 99, the most urgent, are")
	case s.Policy != "SCHED_DEADLINE" && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0):
		return fail(s.Policy+" has no runtime, deadline and period", "SCHED_DEADLINE has")
	}
	flags, err = flagBits(s.Flags, policyFlags())
	return uint32(n), flags, err
}

// Number is class and priority as the kernel knows them.
func (s SetIOPriority) Number() (int, error) {
	class, err := number(s.Class, ioClasses())
	if err == nil && (s.Priority < 0 || s.Priority > 7) {
		err = errs.Newf(errs.Invalid, "", "", fmt.Sprintf("priority %d is none", s.Priority)).WithHint("0, the most urgent, to 7 are")
	}
	return class<<13 | s.Priority, err
}

// Numbers is the mode with its flags, and the nodes bit by bit.
func (s UseMemory) Numbers() (mode int, nodes []uint64, err error) {
	n, err := number(s.Mode, MemoryModes())
	if err != nil {
		return 0, nil, err
	}
	flags, err := flagBits(s.Flags, MemoryFlags())
	if err != nil {
		return 0, nil, err
	}
	if nodes, err = ReadList(s.Nodes); err != nil {
		return 0, nil, err
	}
	switch none := s.Mode == "MPOL_DEFAULT" || s.Mode == "MPOL_LOCAL"; {
	case none && nodes != nil:
		err = errs.Newf(errs.Invalid, "", "", s.Mode+" takes no nodes").WithHint("leave them out")
	case !none && nodes == nil && s.Mode != "MPOL_PREFERRED":
		err = errs.Newf(errs.Invalid, "", "", s.Mode+" takes nodes").WithHint(`list them: "0-3,7"`)
	}
	return n | int(flags)<<firstMemoryFlag, nodes, err
}

// Number is the personality as the kernel knows it.
func (s SeeMachine) Number() (uintptr, error) {
	n, err := number(s.Domain, []string{"LINUX", "LINUX32"})
	return uintptr(n) << 3, err // PER_LINUX32 is 8
}

// mostListed is more than the processors and the nodes of any machine (CONFIG_NR_CPUS).
const mostListed = 8192

// ReadList reads a list of numbers with ranges, "0-3,7", bit by bit; nil if it is empty.
func ReadList(text string) (mask []uint64, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 32)
		b, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || a > b || b >= mostListed {
			return nil, errs.Newf(errs.Invalid, "", "", strconv.Quote(text)+" is no list of numbers").WithHint(`write it as in "0-3,7"`)
		}
		for i := a; i <= b; i++ {
			for uint64(len(mask)) <= i/64 {
				mask = append(mask, 0)
			}
			mask[i/64] |= 1 << (i % 64)
		}
	}
	return mask, nil
}
