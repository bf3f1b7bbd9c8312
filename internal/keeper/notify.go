package keeper

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// maxDatagram is the largest notification that is passed on, in bytes; systemd's own limit.
const maxDatagram = 4096

// ListenNotify makes the socket that a container notifies, in the folder of a container.
// Whoever starts the container makes it, so that nothing is said before anybody listens, and
// passes it on to the keeper as descriptor 9.
func ListenNotify(folder string) (fd int, err error) {
	path := folder + "/" + NotifyName
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, errs.Wrap("listen at", path, err)
	}
	if err = unix.Unlink(path); err == nil || err == unix.ENOENT {
		err = bind(fd, folder)
	}
	if err == nil {
		err = unix.Chmod(path, 0o666) // users of the container have other numbers here
	}
	if err != nil {
		unix.Close(fd)
		return -1, errs.Wrap("listen at", path, err)
	}
	return fd, nil
}

// bind goes through a descriptor: the address of a socket has 107 bytes only.
func bind(fd int, folder string) error {
	dir, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + NotifyName})
}

func (k *keep) openNotify() int {
	if k.orders.Notify.Mode != "container" {
		return -1
	}
	if kind, err := unix.GetsockoptInt(notifyFD, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
		_ = unix.SetNonblock(notifyFD, true)
		return notifyFD
	}
	fd, err := ListenNotify(k.folder)
	if err != nil {
		return -1 // the container cannot be heard; it runs
	}
	return settle(fd, notifyFD)
}

// announce tells the service manager which process to look at, and in the mode "keeper" that
// the container runs.
func (k *keep) announce() {
	if k.orders.Notify.Mode == "" || k.ended != nil {
		return
	}
	s := "MAINPID=" + strconv.Itoa(unix.Getpid())
	if k.orders.Notify.Mode == "keeper" {
		s += "\nREADY=1"
	}
	k.tell(s)
}

// tell sends a notification. What does not arrive is lost, as it would be without Corten.
func (k *keep) tell(s string) {
	if k.orders.Notify.Socket == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte(s), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: k.orders.Notify.Socket})
}

// relay passes on what the container says, so much at a time that it cannot keep the keeper
// from its work. Descriptors that come along are dropped by the kernel.
func (k *keep) relay() {
	var b [maxDatagram + 1]byte
	for range 16 {
		n, _, err := unix.Recvfrom(k.notify, b[:], unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if s := allowed(string(b[:n])); n <= maxDatagram && s != "" {
			k.tell(s)
		}
	}
}

// allowed leaves out what a container has no say in: which process is the main one, what
// descriptors are kept for it.
func allowed(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		name, _, _ := strings.Cut(line, "=")
		switch name {
		case "READY", "RELOADING", "STOPPING", "STATUS", "ERRNO", "BUSERROR", "MONOTONIC_USEC", "WATCHDOG", "WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC":
			out.WriteString(line)
		}
	}
	return out.String()
}
