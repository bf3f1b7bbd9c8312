package crash_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// runtimes are the calls of the Go runtime, which gives up when they fail, and those whose
// failure nobody can do anything about.
func runtimes(c call) bool {
	const archPrctl = 158 // arch_prctl of amd64, which is all that calls are traced on
	switch c.nr {
	case archPrctl:
		return true
	case unix.SYS_WRITE:
		return !c.child && c.args[2] == 8 // the poller wakes itself up; our own write of that size lets the child go
	case unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_RT_SIGACTION,
		unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_YIELD,
		unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETEGID, unix.SYS_GETRANDOM, unix.SYS_NANOSLEEP,
		unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CREATE1, unix.SYS_CLONE, unix.SYS_SET_TID_ADDRESS,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_TGKILL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_CLOSE, unix.SYS_EVENTFD2,
		unix.SYS_FCNTL:
		return true
	}
	return false
}

// errnos are answers that a kernel in trouble gives.
func errnos() []syscall.Errno {
	return []syscall.Errno{unix.ENOMEM, unix.EPERM, unix.ENOSPC, unix.EMFILE, unix.EIO, unix.EINVAL, unix.EINTR, unix.EAGAIN, unix.EBUSY}
}

// point is one call of a start: who makes it, its number, and which of that number it is.
type point struct {
	child   bool
	nr, nth int
}

// TestCallsFail has one system call of a start fail, each in turn and with different errors.
// The command then says what it could not do, or goes without, and leaves nothing.
func TestCallsFail(t *testing.T) {
	if !canTrace {
		t.Skip("needs an amd64 machine")
	}
	for i, s := range starts() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			if s.image {
				w.load()
			}
			for k, p := range w.points(s) {
				tries := errnos()
				if !full() { // each start takes its turn, and each error
					turns := 5 * len(starts()) // not the same ones each time
					if (k+os.Getpid())%turns != i {
						continue
					}
					tries = tries[(k+os.Getpid())/turns%len(tries):][:1]
				}
				for _, e := range tries {
					w.failAt(s, p, e)
				}
				if t.Failed() && !full() {
					return
				}
			}
		})
	}
}

// points lists the calls of an undisturbed start.
func (w *world) points(s start) []point {
	seen := map[point]int{}
	var list []point
	ws := trace(w.t, w.command(s, "census"), func(c call) verdict {
		if runtimes(c) {
			return verdict{}
		}
		kind := point{c.child, c.nr, 0}
		seen[kind]++
		list = append(list, point{c.child, c.nr, seen[kind]})
		return verdict{}
	})
	if ws.ExitStatus() != 7 {
		w.t.Fatalf("undisturbed: %v", ws)
	}
	if s.kept {
		w.kept = append(w.kept, "census")
	}
	return list
}

// failAt has one call fail.
func (w *world) failAt(s start, p point, e syscall.Errno) {
	w.t.Helper()
	name := "same"
	if s.kept || s.image {
		name = fmt.Sprintf("name-%v-%d-%d-%d", p.child, p.nr, p.nth, e)
	}
	cmd := w.command(s, name)
	said := w.listen(cmd)
	count, where := 0, ""
	ws := trace(w.t, cmd, func(c call) verdict {
		if where != "" || c.child != p.child || c.nr != p.nr || runtimes(c) {
			return verdict{}
		}
		if count++; count != p.nth {
			return verdict{}
		}
		where = fmt.Sprintf("%v fails with %q (%d)", c, e.Error(), p.nth)
		return verdict{fail: e}
	})
	if where == "" {
		where = "this time the threads made other calls"
	}
	w.t.Logf("%s: %d %s", where, ws.ExitStatus(), strings.TrimSpace(said()))
	switch code := ws.ExitStatus(); {
	case code == 7:
	case slices.Contains([]int{125, 126, 127}, code) && strings.HasPrefix(said(), "corten: error: "):
	default:
		w.t.Errorf("%s: status %d, said %.500q", where, code, said())
	}
	if !w.ends() {
		w.t.Error(where)
		return
	}
	w.after(s, name, where)
}
