package rows

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// cloneArgs is struct clone_args of clone3(2), in the size of Linux 5.7.
type cloneArgs struct {
	flags      uint64
	pidfd      uint64 // int *
	childTID   uint64 // int *
	parentTID  uint64 // int *
	exitSignal uint64
	_          [5]uint64 // stack, stack_size, tls, set_tid, set_tid_size
	cgroup     uint64
}

// spawn creates a process that walks rows and returns its pid, or minus an errno.
//
// It does not go through the Go runtime's fork hooks. The child shares our memory, runs
// only the assembly, touches no stack, and has every signal blocked and every handler
// reset (CLONE_CLEAR_SIGHAND), so that nothing of the runtime can run in it.
//
//go:noescape
func spawn(args *cloneArgs, size uintptr, rows *Row, n uintptr, out *Outcome) (pid int)

// Born is a new process.
type Born struct {
	PID   int
	PIDFD int // a descriptor for it, the caller's to close

	// The kernel zeroes it, and wakes who waits, when the process stops sharing our memory, which is
	// when it has executed its program or died (CLONE_CHILD_CLEARTID).
	alive *int32
}

// Start creates the process, in the control group that is open as cgroup unless that is negative. Nothing of the table may be changed afterwards but slots
// whose row has not run: the child reads it while we do.
func (t *Table) Start(flags uint64, cgroup int) (Born, error) {
	b := Born{alive: &t.alive}
	pidfd := new(int32)
	*b.alive = 1
	args := &cloneArgs{
		flags: flags | unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_PIDFD |
			unix.CLONE_CHILD_CLEARTID | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		childTID:   uint64(uintptr(unsafe.Pointer(b.alive))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(cgroup)
	}
	t.keep = append(t.keep, t, args, pidfd) // so that they lie in the heap: stacks move

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := kernel.ShedCalm(); err != nil {
		return Born{}, err
	}
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return Born{}, err
	}
	pid := spawn(args, unsafe.Sizeof(*args), &t.Rows[0], uintptr(len(t.Rows)), &t.Out)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return Born{}, err
	}
	if pid < 0 {
		return Born{}, unix.Errno(-pid)
	}
	b.PID, b.PIDFD = pid, int(*pidfd)
	return b, nil
}

// Clone adds a row that makes one more process, which goes on with the row after it as its maker
// does; its numbers are written to pidfd and pid. Without a signal it is a child of ours
// (CLONE_PARENT) and not of its maker. In the control group that is open as cgroup, unless that is
// negative.
//
// All processes of a table clear the same word when they stop sharing our memory: the first to do
// so is the last that was made, or one that failed, since those before it wait (CLONE_VFORK).
func (t *Table) Clone(pidfd, pid *int32, signal uint64, cgroup int) *Row {
	args := &cloneArgs{
		flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES | unix.CLONE_PIDFD |
			unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		parentTID:  uint64(uintptr(unsafe.Pointer(pid))),
		childTID:   uint64(uintptr(unsafe.Pointer(&t.alive))),
		exitSignal: signal,
	}
	if signal == 0 {
		args.flags |= unix.CLONE_PARENT
	}
	if cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(cgroup)
	}
	t.keep = append(t.keep, pidfd, pid)
	return t.Call(unix.SYS_CLONE3, Point(t, args), t.Num(unsafe.Sizeof(*args)))
}

// heir is what the kernel tells of the process that a row of Heir makes.
type heir struct {
	pidfd, pid, alive int32
	args              *cloneArgs
}

// Heir adds a row that makes the process which goes on with the rows after it, in new namespaces;
// its maker ends. It is a child of ours, as its maker is.
func (t *Table) Heir(flags uint64) {
	t.heir.alive = 1
	args := &cloneArgs{
		flags: flags | unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_PIDFD | unix.CLONE_PARENT |
			unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CLEAR_SIGHAND,
		pidfd:     uint64(uintptr(unsafe.Pointer(&t.heir.pidfd))),
		parentTID: uint64(uintptr(unsafe.Pointer(&t.heir.pid))),
		childTID:  uint64(uintptr(unsafe.Pointer(&t.heir.alive))),
	}
	t.heir.args = args
	t.Call(unix.SYS_CLONE3, Point(t, args), t.Num(unsafe.Sizeof(*args))).Fork = 1
	t.Call(unix.SYS_EXIT_GROUP, Zero)
}

// Heirs reports whether there is such a row.
func (t *Table) Heirs() bool { return t.heir.args != nil }

// StartFor is Start of a process that only leads to its heir, who is born in the control group.
func (t *Table) StartFor(cgroup int) (Born, error) {
	if cgroup >= 0 {
		t.heir.args.flags |= unix.CLONE_INTO_CGROUP
		t.heir.args.cgroup = uint64(cgroup)
	}
	return t.Start(0, -1)
}

// Inherited waits until the process that walked the rows up to Heir has ended, and returns the one that
// goes on; false if it was not made. Its PID is as its maker saw it.
func (t *Table) Inherited(first Born) (Born, bool) {
	first.Apart()
	return Born{PID: int(t.heir.pid), PIDFD: int(t.heir.pidfd), alive: &t.heir.alive}, t.heir.pid != 0
}

// Apart waits until the process has executed its program or died.
func (b Born) Apart() { gone(b.alive) }

// KinApart waits for the process that the first one made, if it came to that: apart from the
// first one it makes none any more.
func (t *Table) KinApart() {
	if t.Kin != nil && atomic.LoadInt32(&t.Kin.PID) != 0 {
		gone(&t.Kin.Alive)
	}
}

// Settled reports whether both would be found apart now.
func (t *Table) Settled(b Born) bool {
	return atomic.LoadInt32(b.alive) == 0 &&
		(t.Kin == nil || atomic.LoadInt32(&t.Kin.PID) == 0 || atomic.LoadInt32(&t.Kin.Alive) == 0)
}

// gone waits until the kernel has zeroed a word.
func gone(alive *int32) {
	for {
		v := atomic.LoadInt32(alive)
		if v == 0 {
			return
		}
		// EAGAIN: the word changed meanwhile; EINTR: look again. Both end in another look.
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(alive)), 0 /* FUTEX_WAIT */, uintptr(v), 0, 0, 0)
	}
}
