package numbers

import (
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/plan"
)

// OneProcess is that ioprio_set(2) is about one process (IOPRIO_WHO_PROCESS).
const OneProcess = 1

// Scheduler is what sched_setattr(2) takes.
func Scheduler(s plan.Schedule) (*unix.SchedAttr, error) {
	policy, flags, err := s.Numbers()
	return &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Flags: flags, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}, err
}
