package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func openPath(path []byte, flags int) (int, error) {
	if !terminated(path) {
		return -1, unix.EINVAL
	}
	cwd := unix.AT_FDCWD
	n, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&path[0])), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

func readLink(dir int, path, buf []byte) (int, error) {
	if !terminated(path) || len(buf) == 0 {
		return -1, unix.EINVAL
	}
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

func terminated(path []byte) bool { return len(path) > 0 && path[len(path)-1] == 0 }

func receiveFrom(fd int, buf []byte, from *unix.SockaddrInet4) (int, error) {
	if len(buf) == 0 {
		return -1, unix.EINVAL
	}
	var raw unix.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(raw))
	n, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), unix.MSG_TRUNC,
		uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return -1, e
	}
	port := (*[2]byte)(unsafe.Pointer(&raw.Port)) // in the network's order
	from.Addr, from.Port = raw.Addr, int(port[0])<<8|int(port[1])
	return int(n), nil
}
