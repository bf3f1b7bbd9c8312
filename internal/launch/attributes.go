package launch

import (
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/plan"
)

// schedule sets when the process that waits gets a processor.
func (h *host) schedule(s plan.Schedule) error {
	attr, err := numbers.Scheduler(s)
	if err != nil {
		return err
	}
	return scheduleHint(unix.SchedSetAttr(h.proc.PID, attr, 0))
}

// scheduleHint says what refusals of sched_setattr(2) mean.
func scheduleHint(err error) error {
	switch err {
	case unix.EPERM:
		return errs.New(errs.Denied, "", "", err).WithHint("what is more urgent than usual takes CAP_SYS_NICE on the host; a control group of cgroup v1 " +
			"has no time for SCHED_FIFO and SCHED_RR before linux.resources.cpu.realtimeRuntime gives it some; SCHED_DEADLINE takes all processors")
	case unix.EBUSY:
		return errs.New(errs.Busy, "", "", err).WithHint("the processors have not so much time to promise: ask for less runtime, or a longer period")
	case unix.EINVAL:
		return errs.New(errs.Invalid, "", "", err).WithHint("the kernel does not know this policy, or not with these values: see sched(7)")
	}
	return err
}

// refused is why the kernel did not do a step of the process, with a way out where there is one.
func refused(s plan.Step, err error) error {
	hint := ""
	switch s.(type) {
	case plan.Schedule:
		err = scheduleHint(err)
	case plan.SetIOPriority:
		hint = priorityHint
	case plan.RunOn:
		hint = "none of these processors is there, or is one that its control group may use"
	case plan.UseMemory:
		hint = "the machine or the control group has no such nodes, or the kernel does not know this mode: see set_mempolicy(2)"
	case plan.NewKeyring:
		hint = "leave session keyrings alone with --no-new-keyring, or see keyrings(7) for the limits of a user"
	}
	e := errs.New(errs.KindOf(err), s.String(), "", err)
	e.Hint = hint
	return e
}

const priorityHint = "IOPRIO_CLASS_RT takes CAP_SYS_NICE on the host"

func setIOPriority(pid int, s plan.SetIOPriority) error {
	n, err := s.Number()
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, numbers.OneProcess, uintptr(pid), uintptr(n)); errno != 0 {
		return errs.New(errs.KindOf(errno), "", "", errno).WithHint(priorityHint)
	}
	return nil
}
