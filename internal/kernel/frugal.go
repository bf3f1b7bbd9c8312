package kernel

import "golang.org/x/sys/unix"

// System calls as x/sys has them, but without garbage: for a program that does so little else that
// it may never have to collect any. A path ends with a byte that is 0.

// OpenPath is open(2) with O_CLOEXEC.
func OpenPath(path []byte, flags int) (fd int, err error) {
	return openPath(path, flags)
}

// ReadLink is readlinkat(2).
func ReadLink(dir int, path, buf []byte) (n int, err error) { return readLink(dir, path, buf) }

// ReceiveFrom is recvfrom(2) of a socket of IPv4. n is the length of the datagram also when buf is
// shorter.
func ReceiveFrom(fd int, buf []byte, from *unix.SockaddrInet4) (n int, err error) {
	return receiveFrom(fd, buf, from)
}

// Accept is accept4(2), for who does not care whom it is from.
func Accept(fd, flags int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, uintptr(flags), 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
