package resolve

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// address is where a container finds its server: wiring.ResolverIP.
var address = [4]byte{127, 0, 0, 11}

// backlog is how many connections may wait to be accepted.
const backlog = 16

// Listen makes the two sockets of a server in the network namespace of the calling thread:
// for datagrams and for connections, at 127.0.0.11 and the port. The interface lo has to be up.
func Listen(port uint16) (udp, tcp int, err error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	at := &unix.SockaddrInet4{Port: int(port), Addr: address}
	if udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|flags, 0); err != nil {
		return -1, -1, errs.Wrap("make socket for", "name server", err)
	}
	if err = unix.Bind(udp, at); err == nil {
		tcp, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)
	}
	if err != nil {
		unix.Close(udp)
		return -1, -1, errs.Wrap("listen as", "name server", err)
	}
	// Connections of a server before this one are in TIME_WAIT for a minute.
	if err = unix.SetsockoptInt(tcp, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(tcp, at)
	}
	if err == nil {
		err = unix.Listen(tcp, backlog)
	}
	if err != nil {
		unix.Close(udp)
		unix.Close(tcp)
		return -1, -1, errs.Wrap("listen as", "name server", err)
	}
	return udp, tcp, nil
}

// ListenIn is Listen in another network namespace: ns is a descriptor of it, or the pidfd of a
// process in it (setns(2), Linux 5.8). A process that cannot come back from there ends: it would
// go on in a network that is not its own.
func ListenIn(ns int, port uint16) (udp, tcp int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, errs.Wrap("open", "/proc/thread-self/ns/net", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, -1, errs.Wrap("enter", "network namespace of container", err)
	}
	udp, tcp, err = Listen(port)
	if unix.Setns(own, unix.CLONE_NEWNET) != nil {
		unix.Exit(1)
	}
	return udp, tcp, err
}

// Place sees to it that two descriptors, by their numbers, are what Listen makes for a port in the
// network namespace ns: those that have the numbers already, or new ones. If that is not possible,
// the port being taken, the numbers are held, so that it can be tried again.
func Place(ns int, port uint16, udp, tcp int) error {
	if !Listening(udp, tcp, port) {
		a, b, err := ListenIn(ns, port)
		if err != nil {
			a, _ = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			b, _ = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		}
		put(&a, &b, udp)
		put(&b, &a, tcp)
		if err != nil {
			return err
		}
	}
	_ = unix.SetNonblock(udp, true)
	_ = unix.SetNonblock(tcp, true)
	return nil
}

// put gives a descriptor a number. If the other one has that, it gets another.
func put(fd, other *int, number int) {
	if *fd == number || *fd < 0 {
		return
	}
	if *other == number {
		if n, err := unix.FcntlInt(uintptr(number), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			*other = n
		}
	}
	_ = unix.Dup3(*fd, number, unix.O_CLOEXEC)
	unix.Close(*fd)
	*fd = number
}

// Listening reports whether two descriptors are what Listen makes for a port.
func Listening(udp, tcp int, port uint16) bool {
	accepts, err := unix.GetsockoptInt(tcp, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && accepts == 1 && bound(udp, unix.IPPROTO_UDP, port) && bound(tcp, unix.IPPROTO_TCP, port)
}

func bound(fd, protocol int, port uint16) bool {
	if p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != protocol {
		return false
	}
	name, err := unix.Getsockname(fd)
	at, is4 := name.(*unix.SockaddrInet4)
	return err == nil && is4 && at.Addr == address && at.Port == int(port)
}
