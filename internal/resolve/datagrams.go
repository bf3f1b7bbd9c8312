package resolve

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// maxAsked is how many questions may wait for a server; then the oldest is forgotten, as a datagram
// may be.
const maxAsked = 256

// asked is a question that came as a datagram and waits for an answer of a server. Each has a
// socket, and so a port, of its own: together with the number that makes 32 bits to guess for who
// would like to answer in the server's place.
type asked struct {
	fd     int // 0: this place is free
	addr   [4]byte
	port   int
	id     uint16 // the asker's
	number uint16 // ours
	once   bool   // it may be sent once more as it is: a datagram may be lost
	length int
	server int
	tries  int
	begun  uint64 // counts
	due    int64
}

// datagrams answers what has come as datagrams, so many that others have their turn.
func (s *Server) datagrams() {
	for range batch {
		n, err := kernel.ReceiveFrom(s.udp, s.mem.in, &s.from)
		if err == unix.EAGAIN {
			return
		}
		if err != nil || n > len(s.mem.in) {
			continue
		}
		b := s.mem.in[:n]
		out, v := s.local(s.mem.out[:0], b, false)
		if v == elsewhere {
			out, v = s.pass(b)
		}
		if v == answered {
			_ = unix.Sendto(s.udp, out, unix.MSG_DONTWAIT, &s.from)
		}
	}
}

// pass asks a server. What it returns is the answer if that cannot be done.
func (s *Server) pass(b []byte) ([]byte, verdict) {
	if len(b) > slotSize {
		return s.question.refuse(s.mem.out[:0], b, formatError), answered
	}
	s.servers.look(s.now, s.mem.out)
	i := 0
	for j := range s.asked {
		if s.asked[j].fd == 0 {
			i = j
			break
		}
		if s.asked[j].begun < s.asked[i].begun {
			i = j
		}
	}
	s.forget(i)
	s.count++
	a := &s.asked[i]
	*a = asked{addr: s.from.Addr, port: s.from.Port, id: binary.BigEndian.Uint16(b), length: copy(s.mem.slot(i), b), begun: s.count}
	s.high = max(s.high, i+1)
	if !s.ask(i) {
		return s.question.refuse(s.mem.out[:0], b, serverFailure), answered
	}
	return nil, nothing
}

// forget frees the place of a question.
func (s *Server) forget(i int) {
	if s.asked[i].fd != 0 {
		unix.Close(s.asked[i].fd)
		s.asked[i].fd = 0
	}
}

// ask asks the next server; false: there is none.
func (s *Server) ask(i int) bool {
	a := &s.asked[i]
	for a.tries < s.servers.tries() {
		s.forget(i)
		a.server = s.servers.pick(s.now, a.tries, a.server)
		a.tries++
		fd, err := s.dial(a.server, unix.SOCK_DGRAM, tagAsked+i, unix.EPOLLIN)
		if err != nil {
			continue
		}
		a.fd, a.due = fd, s.now+patience
		if a.once = a.tries == 1 && len(s.servers.list) == 1; a.once {
			a.due = s.now + loss
		}
		b := s.mem.slot(i)[:a.length]
		a.number = s.random()
		binary.BigEndian.PutUint16(b, a.number)
		if _, err := unix.Write(fd, b); err == nil || err == unix.EAGAIN {
			return true
		}
	}
	s.forget(i)
	return false
}

// overdue is for a question whose answer has not come in time. The second datagram is the first once more:
// the answer to either is one.
func (s *Server) overdue(i int) {
	a := &s.asked[i]
	if rest := patience - loss; a.once && s.now < a.due+rest {
		a.once, a.due = false, a.due+rest
		if _, err := unix.Write(a.fd, s.mem.slot(i)[:a.length]); err == nil || err == unix.EAGAIN {
			return
		}
	}
	s.servers.blame(s.now, a.server)
	s.again(i)
}

// dial makes a socket to a server, which is watched.
func (s *Server) dial(server, kind, tag int, events uint32) (fd int, err error) {
	to := &s.servers.list[server]
	if fd, err = unix.Socket(to.family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	if err = unix.Connect(fd, to.at); err == nil || err == unix.EINPROGRESS {
		err = s.watch(unix.EPOLL_CTL_ADD, fd, tag, events)
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// came takes what a server has answered to a question.
func (s *Server) came(i int) {
	a := &s.asked[i]
	for range batch {
		if a.fd == 0 {
			return // an event from before
		}
		n, err := unix.Read(a.fd, s.mem.in)
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err != nil { // nobody listens there
			s.servers.blame(s.now, a.server)
			s.again(i)
			return
		}
		b := s.mem.in[:n]
		if !answers(b, s.mem.slot(i)[:a.length], a.number) {
			continue // of somebody else, or nonsense: the right one may still come
		}
		if unwilling(b) && s.servers.others(a.tries) {
			s.again(i)
			return
		}
		binary.BigEndian.PutUint16(b, a.id)
		s.send(a, b)
		s.forget(i)
		return
	}
}

// unwilling reports whether a server says that another one may know more.
func unwilling(b []byte) bool {
	switch code(b) {
	case serverFailure, notImplemented, refused:
		return true
	}
	return false
}

// again asks another server. If there is none, that is the answer.
func (s *Server) again(i int) {
	a := &s.asked[i]
	if s.ask(i) {
		return
	}
	b := s.mem.slot(i)[:a.length]
	binary.BigEndian.PutUint16(b, a.id)
	if s.question.parse(b) == noError {
		s.send(a, s.question.refuse(s.mem.out[:0], b, serverFailure))
	}
}

// send sends an answer to who has asked.
func (s *Server) send(a *asked, b []byte) {
	s.to.Addr, s.to.Port = a.addr, a.port
	_ = unix.Sendto(s.udp, b, unix.MSG_DONTWAIT, &s.to)
}
