package compile

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// Forked is a process as the kernel tells of it. The pidfd counts once there is a pid: that of a
// clone3 that failed late is closed again, and its number may be another file's.
type Forked struct{ pidfd, pid int32 }

// First is the process that walks the program from its beginning.
func First(b rows.Born) *Forked { return &Forked{int32(b.PIDFD), int32(b.PID)} }

// PIDFD is the pidfd; -1 as long as there is no process.
func (f *Forked) PIDFD() int {
	if atomic.LoadInt32(&f.pid) == 0 {
		return -1
	}
	return int(atomic.LoadInt32(&f.pidfd))
}

// Forked is the processes that the program makes on its way, the last of which executes the command.
func (c *Program) Forked() []*Forked { return c.forked }

// enter compiles the joining of namespaces.
func (c *Program) enter(s plan.Enter) error {
	var flags uintptr
	for _, name := range s.Namespaces {
		f, err := numbers.Namespace(name)
		if err != nil {
			return err
		}
		flags |= f
	}
	c.Call(unix.SYS_SETNS, c.handle(s.FD), c.Num(flags))
	return nil
}

// fork goes on in a new process; with Orphan in the child of a new process.
//
// Both processes come out of clone3 and walk the same table. The old one is kept inside
// (CLONE_VFORK) until the new one has executed its program or died: then there is nothing left
// for it to do. As its result is a pid, tgkill finds that and it exits; for the new one it is
// 0, tgkill refuses that, and the exit is left out. As long as the kernel takes it for a vfork the
// new one is not chosen when memory runs out: with it we would be killed, who share its memory.
func (c *Program) fork(s plan.Fork) {
	if s.Orphan {
		c.forkOnce("", 0) // in the container, and our child
		c.forkOnce(s.Group, uint64(unix.SIGCHLD))
	} else {
		c.forkOnce(s.Group, 0)
	}
	c.Call(unix.SYS_UNSHARE, c.Num(unix.CLONE_FILES))
}

// forkOnce makes a process; without a signal it is our own child (CLONE_PARENT) and not that
// of the process that makes it.
func (c *Program) forkOnce(group plan.Handle, signal uint64) {
	f := &Forked{pidfd: -1}
	cgroup := -1
	if group != "" {
		cgroup = int(c.Slots[c.handle(group)])
	}
	c.forked = append(c.forked, f)
	pid := c.Result(c.Clone(&f.pidfd, &f.pid, signal, cgroup))
	c.Call(unix.SYS_TGKILL, pid, pid, rows.Zero).Tolerate(1, unix.EINVAL)
	c.Call(unix.SYS_EXIT_GROUP, rows.Zero)
}
