package kernel

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// calm is how many nanoseconds longer than asked for a calm thread may sleep. It is no number
// that somebody else would think of.
const calm = 2_000_001

// CalmMonitor has the thread with which the Go runtime watches its others sleep up to 2 ms longer
// at a time. In its first three milliseconds it wakes every 70 microseconds to find nothing: fifty
// interrupts, on the processors on which a container starts, which takes hardly longer. What it is
// there for it then does 2 ms later: to stop a goroutine that runs for long, and to pass the place
// of one that waits in the kernel on to another, if no processor is left for that.
//
// It takes CAP_SYS_NICE, Linux 4.6 and a thread that can be told by its number; else nothing changes.
func CalmMonitor() { monitorSlack(strconv.Itoa(calm)) }

// RouseMonitor undoes CalmMonitor.
func RouseMonitor() { monitorSlack("0") } // what it was born with

// monitorSlack writes the timer slack of the runtime's first thread but the main one, which is the
// monitor. As a rule its number is the next after ours, or soon after that.
func monitorSlack(ns string) {
	pid := os.Getpid()
	for tid := pid + 1; tid < pid+32; tid++ {
		if unix.Tgkill(pid, tid, 0) != nil {
			continue
		}
		if fd, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			_, _ = unix.Write(fd, []byte(ns))
			_ = unix.Close(fd)
		}
		return
	}
}

// ShedCalm gives this thread the timer slack that the main one has, if it was made by a monitor
// that was calm: a process that it makes would inherit that, through execve(2) too. The goroutine
// must be locked to it.
func ShedCalm() error {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || ns != calm {
		return err
	}
	raw, err := os.ReadFile("/proc/self/timerslack_ns")
	if err != nil {
		return err
	}
	own, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(own), 0, 0, 0)
}
