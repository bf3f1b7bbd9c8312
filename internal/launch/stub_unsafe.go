package launch

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
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
func spawn(args *cloneArgs, size uintptr, rows *row, n uintptr, out *outcome) (pid int)

// born is a new process: its pid, a descriptor for it, and a word that the kernel zeroes
// and wakes when the process stops sharing our memory, which is when it has executed its
// program or died (CLONE_CHILD_CLEARTID).
type born struct {
	pid   int
	pidfd int
	alive *int32
}

// start creates the process. Nothing of the table may be changed afterwards but slots
// whose row has not run: the child reads it while we do.
func (t *table) start(flags uint64, cgroup int) (born, error) {
	b := born{alive: &t.alive}
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
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return born{}, err
	}
	pid := spawn(args, unsafe.Sizeof(*args), &t.rows[0], uintptr(len(t.rows)), &t.out)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return born{}, err
	}
	if pid < 0 {
		return born{}, unix.Errno(-pid)
	}
	b.pid, b.pidfd = pid, int(*pidfd)
	return b, nil
}

// apart waits until the process has executed its program or died.
func (b born) apart() { gone(b.alive) }

// kinApart waits for the process that the first one made, if it came to that: apart from the
// first one it makes none any more.
func (t *table) kinApart() {
	if t.kin != nil && atomic.LoadInt32(&t.kin.pid) != 0 {
		gone(&t.kin.alive)
	}
}

// settled reports whether both would be found apart now.
func (t *table) settled(b born) bool {
	return atomic.LoadInt32(b.alive) == 0 &&
		(t.kin == nil || atomic.LoadInt32(&t.kin.pid) == 0 || atomic.LoadInt32(&t.kin.alive) == 0)
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
