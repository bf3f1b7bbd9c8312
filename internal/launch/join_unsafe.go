package launch

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const sizeofCloneArgs = unsafe.Sizeof(cloneArgs{})

// cloneArgs is what Fork hands to clone3(2). All processes of a table clear the same word
// when they stop sharing our memory: the first to do so is the last that was made, or one that
// failed, since those before it wait.
func (c *compiler) cloneArgs(f *forked, signal uint64) *cloneArgs {
	args := &cloneArgs{
		flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES | unix.CLONE_PIDFD |
			unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(&f.pidfd))),
		parentTID:  uint64(uintptr(unsafe.Pointer(&f.pid))),
		childTID:   uint64(uintptr(unsafe.Pointer(&c.alive))),
		exitSignal: signal,
	}
	if signal == 0 {
		args.flags |= unix.CLONE_PARENT
	}
	c.keep = append(c.keep, args, f)
	return args
}

// openPTS opens the other end of a terminal without its name, which leads anywhere
// (TIOCGPTPEER, Linux 4.13).
func openPTS(ptm int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ptm), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// HideArguments blanks the command line of this process, for good. As long as a process shares
// our memory /proc/PID/cmdline shows it to all who see the process (proc_pid_cmdline(5)), and
// there may be passwords in it. The strings of os.Args lie there: whoever needs one has to have a copy.
func HideArguments() {
	for _, a := range os.Args[1:] {
		clear(unsafe.Slice(unsafe.StringData(a), len(a)))
	}
}
