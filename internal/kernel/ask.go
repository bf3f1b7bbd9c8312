// Package kernel holds the system calls that need more than a function of x/sys: unsafe
// memory, a struct of their own, or a process that is only there to be looked at. Nothing
// in it knows what a container is.
package kernel

import "golang.org/x/sys/unix"

// System calls that only ask, or that x/sys has no function for.

// Landlock is the version of Landlock's interface, landlock(7): 1 is Linux 5.13.
func Landlock() (int, error) { return landlockABI() }

// SeccompAllow installs a filter on this thread that allows everything. With the flag
// SECCOMP_FILTER_FLAG_NEW_LISTENER (Linux 5.0) it returns a descriptor of notifications,
// else 0. The filter stays for the thread's life.
func SeccompAllow(flags uint) (int, error) { return seccompAllow(flags) }

// ListMounts asks for the numbers of the mounts below the root and returns how many of
// them there are, up to a few, and the first (listmount: Linux 6.8).
func ListMounts() (n int, first uint64, err error) { return listMounts() }

// StatMount asks what a mount is (statmount: Linux 6.8).
func StatMount(id uint64) error { return statMount(id) }

// SecurityModules are the numbers, LSM_ID_* of <linux/lsm.h>, of the active security
// modules (lsm_list_modules: Linux 6.8).
func SecurityModules() ([]uint64, error) { return lsmList() }

// Userfaultfd makes a descriptor for page faults of user mode.
func Userfaultfd() (int, error) {
	const userModeOnly = 1 // UFFD_USER_MODE_ONLY: Linux 5.11
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|userModeOnly, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// IOUring asks whether this process may have an io_uring. None is made: the call has no
// parameters to read, and the kernel looks for permission first.
func IOUring() error {
	_, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	if e == unix.EFAULT {
		return nil
	}
	return e
}

// SameFile asks whether two descriptors of this process are one open file (kcmp(2)).
func SameFile(a, b int) (bool, error) {
	const kcmpFile = 0
	pid := uintptr(unix.Getpid())
	n, _, e := unix.Syscall6(unix.SYS_KCMP, pid, pid, kcmpFile, uintptr(a), uintptr(b), 0)
	if e != 0 {
		return false, e
	}
	return n == 0, nil
}

// OpenPeer opens the other side of a terminal, given its master, without making it
// anybody's controlling terminal (TIOCGPTPEER: Linux 4.13).
func OpenPeer(master int) (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// ExitOf asks how the process of a pidfd ended, as wait(2) puts it, without being its
// parent: when somebody else has reaped it (PIDFD_INFO_EXIT: Linux 6.15).
func ExitOf(pidfd int) (status unix.WaitStatus, known bool) { return pidfdExit(pidfd) }

// SocketOption reads an option of a socket into b, which may be what is asked for as well, and returns how
// long the answer is.
func SocketOption(fd, level, name int, b []byte) (int, error) {
	return socketOption(fd, level, name, b)
}
