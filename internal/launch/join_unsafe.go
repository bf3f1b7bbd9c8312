package launch

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
