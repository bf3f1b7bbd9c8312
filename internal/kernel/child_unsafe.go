package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args of clone3(2), in the size of Linux 5.7.
type cloneArgs struct {
	flags      uint64
	pidfd      uint64 // int *
	childTID   uint64
	parentTID  uint64
	exitSignal uint64
	stack      uint64
	stackSize  uint64
	tls        uint64
	setTID     uint64
	setTIDSize uint64
	cgroup     uint64
}

// fork makes the child. Go's runtime does not know of it: the child is a copy of this
// memory with one thread, in which every signal stays blocked, and runs childMain alone.
func fork(s ChildSpec, wait int) (pid, pidfd int, err error) {
	args := cloneArgs{
		flags:      s.Flags | unix.CLONE_PIDFD,
		exitSignal: uint64(unix.SIGCHLD),
	}
	if s.Flags&unix.CLONE_INTO_CGROUP != 0 {
		args.cgroup = uint64(s.Cgroup)
	}
	size := unsafe.Sizeof(args)
	if args.cgroup == 0 {
		size = 64 // Linux 5.3: up to tls
	}
	var fd int32
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, -1, err
	}
	n, errno := forkRaw(&args, size, &fd, uintptr(s.Unshare), wait)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return 0, -1, err
	}
	if errno != 0 {
		return 0, -1, errno
	}
	return n, int(fd), nil
}

// forkRaw returns in the parent only. Between clone3 and the end nothing is allocated, no
// stack grows or moves, and no lock is taken: whoever held one is not there in the copy.
//
//go:norace
//go:nosplit
func forkRaw(args *cloneArgs, size uintptr, fd *int32, namespaces uintptr, wait int) (int, unix.Errno) {
	args.pidfd = uint64(uintptr(unsafe.Pointer(fd))) // here, since a stack moves where one may grow
	pid, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), size, 0)
	if e != 0 || pid != 0 {
		return int(pid), e
	}
	e = 0
	if namespaces != 0 {
		_, _, e = unix.RawSyscall(unix.SYS_UNSHARE, namespaces, 0, 0)
	}
	if e == 0 && wait >= 0 {
		// Only the pipe stays open: what else it held would outlive those who close it. The
		// pipe ends with its writer, which is our parent alone.
		if wait != 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_DUP3, uintptr(wait), 0, 0)
		}
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0)
		var b byte
		_, _, _ = unix.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1)
	}
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(e), 0, 0)
	}
}
