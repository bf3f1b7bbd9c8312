package connect

import (
	"encoding/json"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// peer is who started us, at the other end of a socket of packets. Without one nobody is told.
type peer struct {
	fd int // -1: nobody
}

func newPeer(fd int) *peer {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return &peer{fd: -1}
	}
	unix.CloseOnExec(fd)
	return &peer{fd: fd}
}

// newBox is a box of ports (package ports), if there is one.
func newBox(fd int) int {
	if p := newPeer(fd); fd > 0 && p.fd >= 0 {
		return fd
	}
	return -1
}

func (p *peer) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// pid waits for the container's process; 0: there will be none.
func (p *peer) pid() (int, error) {
	b, err := p.receive()
	if err != nil || len(b) == 0 {
		return 0, err
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil || pid <= 0 {
		return 0, errs.Newf(errs.Invalid, "connect container", "", "its process is said to be "+strconv.Quote(string(b)))
	}
	return pid, nil
}

// end waits until there is nothing more to come.
func (p *peer) end() error {
	for {
		if b, err := p.receive(); err != nil || len(b) == 0 {
			return err
		}
	}
}

// receive takes a packet; an empty one is the end.
func (p *peer) receive() ([]byte, error) {
	if p.fd < 0 {
		return nil, nil
	}
	b := make([]byte, 64)
	for {
		n, _, err := unix.Recvfrom(p.fd, b, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECONNRESET): // it was killed with something unread
			return nil, nil
		case err != nil:
			return nil, errs.Wrap("receive", "from who started us", err)
		default:
			return b[:n], nil
		}
	}
}

// ok tells that all is done, with descriptors for who is to have them.
func (p *peer) ok(fds ...int) error { return p.send([]byte("ok"), fds) }

// fail tells of an error.
func (p *peer) fail(err error) {
	b, _ := json.Marshal(errs.PartsOf(err))
	_ = p.send(b, nil)
}

func (p *peer) send(b []byte, fds []int) error {
	if p.fd < 0 {
		return nil
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	err := unix.Sendmsg(p.fd, b, rights, nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) { // nobody listens any more
		return nil
	}
	return errs.Wrap("answer", "who started us", err)
}
