package main

import (
	"io"
	"net"
	"os"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// notification and answer are struct seccomp_notif and seccomp_notif_resp, seccomp_unotify(2).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// agent answers for one filter in the background, until nobody has it any more.
func agent(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: agent SOCKET FILE")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	file := ts.MkAbs(args[1])
	go func() {
		c, err := l.AcceptUnix()
		_ = l.Close()
		if err != nil {
			return
		}
		text, rights := make([]byte, 1<<16), make([]byte, 100)
		n, nr, _, _, err := c.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(c) // the connection is closed when all is said
		_ = c.Close()
		msgs, err := unix.ParseSocketControlMessage(rights[:nr])
		if err != nil || len(msgs) != 1 {
			return
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			return
		}
		_ = os.WriteFile(file, append(text[:n], rest...), 0o644)
		defer unix.Close(fds[0])
		for answerOne(fds[0]) {
		}
	}()
}

func answerOne(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err == unix.EINTR {
		return true
	}
	if fds[0].Revents&unix.POLLIN == 0 { // who had the filter is gone
		return false
	}
	var asked notification
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asked))); errno != 0 {
		return errno == unix.ENOENT || errno == unix.EINTR // it was killed meanwhile
	}
	a := answer{id: asked.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if asked.nr == int32(mkdir()) {
		a.flags, a.errno = 0, -int32(unix.EDOM)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	return errno == 0 || errno == unix.ENOENT || errno == unix.EINTR
}
