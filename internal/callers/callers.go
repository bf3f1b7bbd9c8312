// Package callers has somebody answer who comes to a published port of [::1], since the kernel has no way from there to a
// container. The sockets that such ports are held by lie in a box (package ports), in which connections and datagrams
// wait. A Watch sees that there are some, and starts corten-net, which copies them until nobody has come for a while.
//
// It is linked into corten-keeper. What epoll(7) watches are files, and those in a box are open as long as they lie there: so a
// keeper to whom nobody comes has one descriptor for all of it, and no memory.
package callers

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// perBox is how many sockets are looked for: SCM_MAX_FD, unix(7). Those that hear are put first.
const perBox = 253

// Sockets returns new descriptors of those in a box that hear. What is no box has none.
func Sockets(box int) (fds []int) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4*perBox))
	_, n, _, _, err := unix.Recvmsg(box, b[:], oob, unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil
	}
	all, _ := unix.ParseUnixRights(&messages[0])
	for _, fd := range all {
		if hears(fd) {
			fds = append(fds, fd)
		} else {
			unix.Close(fd)
		}
	}
	return fds
}

// hears is true for a socket of TCP that listens, and for one of UDP and IPv6: others drop what comes.
func hears(fd int) bool {
	get := func(option int) int {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return -1
		}
		return n
	}
	return get(unix.SO_ACCEPTCONN) == 1 || get(unix.SO_TYPE) == unix.SOCK_DGRAM && get(unix.SO_DOMAIN) == unix.AF_INET6
}

// Times in ns.
const (
	second = int64(1e9)
	again  = 10 * second // after somebody could not answer
	never  = int64(1<<63 - 1)
)

// Watch waits for callers at a box, or for who answers them.
type Watch struct {
	PIDFD int // of who answers; -1: nobody does

	box, free int
	poll      int   // can be read from when somebody comes; -1: nobody is waited for
	due       int64 // when to wait again
	pid       int   // of who answers
	since     int64 // when that began
}

// New is a Watch of the box at a descriptor, which may be none. Its own is not below free.
func New(box, free int) Watch { return Watch{PIDFD: -1, box: box, free: free, poll: -1} }

// Turn waits for somebody, if it is time to. poll is a descriptor that it has made for that and that can be read from when somebody
// comes, else -1; next is when to call it again. Times are of the monotonic clock, in ns.
func (w *Watch) Turn(now int64) (poll int, next int64) {
	if now < w.due || w.due == never {
		return -1, w.due
	}
	w.due = never
	fds := Sockets(w.box)
	if len(fds) == 0 {
		return -1, never
	}
	if p, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		w.poll, err = unix.FcntlInt(uintptr(p), unix.F_DUPFD_CLOEXEC, w.free)
		unix.Close(p)
		if err != nil {
			w.poll = -1
		}
	}
	for _, fd := range fds {
		if w.poll >= 0 {
			_ = unix.EpollCtl(w.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
		}
		unix.Close(fd)
	}
	return w.poll, never
}

// Called is for when somebody has come: program answers, with the box as descriptor 4. It ends when the calling
// process does. It returns PIDFD.
func (w *Watch) Called(program string, args, env []string, now int64) (pidfd int) {
	w.deaf()
	w.since = now
	attr := &syscall.ProcAttr{Dir: "/", Env: env, Files: []uintptr{0, 1, 2, 0, uintptr(w.box)},
		Sys: &syscall.SysProcAttr{PidFD: &w.PIDFD, Setpgid: true, Pdeathsig: unix.SIGKILL}}
	pid, err := syscall.ForkExec(program, args, attr)
	if err != nil {
		w.PIDFD, w.due = -1, now+again
	}
	w.pid = pid
	return w.PIDFD
}

// Answered is for when that one has ended: it had nobody for a while, or could not answer.
func (w *Watch) Answered(now int64) {
	w.reap()
	if w.due = now; now-w.since < second {
		w.due = now + again
	}
}

// Close waits no more, and ends who answers: the ports are free then, but for the box.
func (w *Watch) Close() {
	w.deaf()
	w.due = 0
	if w.PIDFD >= 0 {
		_ = unix.PidfdSendSignal(w.PIDFD, unix.SIGKILL, nil, 0)
		w.reap()
	}
}

func (w *Watch) deaf() {
	if w.poll >= 0 {
		unix.Close(w.poll)
		w.poll = -1
	}
}

func (w *Watch) reap() {
	for {
		if _, err := unix.Wait4(w.pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	unix.Close(w.PIDFD)
	w.PIDFD = -1
}
