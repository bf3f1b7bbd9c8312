package resolve

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// maxConns is how many connections a container may have with us. One more, and the one that has
// been silent for the longest time is closed.
const maxConns = 16

// idle is how long a connection may be without a whole question, or not take an answer, in ns.
const idle = 10 * second

// conn is a connection of a container, and while it waits for an answer from elsewhere another one
// to a server. Both sides have a message at a time, after its length in two bytes (RFC 7766): what
// comes meanwhile waits in the kernel.
type conn struct {
	fd     int // 0: this place is free
	server int // the socket to one; 0: there is none
	asking int // which one that is
	tries  int
	state  state
	at     int // how much of the message is read or written
	id     uint16
	number uint16
	events uint32 // what is watched at fd
	due    int64
}

// state is what a connection is at.
type state uint8

const (
	reading   state = iota // the question, from the container
	sending                // it to the server
	receiving              // the answer from there
	writing                // it to the container
)

// accept takes connections that have come.
func (s *Server) accept() {
	for range maxConns {
		fd, err := kernel.Accept(s.tcp, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		i := 0
		for j := range s.conns {
			if s.conns[j].fd == 0 {
				i = j
				break
			}
			if s.conns[j].before(&s.conns[i]) {
				i = j
			}
		}
		s.hangUp(i)
		if s.watch(unix.EPOLL_CTL_ADD, fd, tagConn+i, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		s.conns[i] = conn{fd: fd, events: unix.EPOLLIN, due: s.now + idle}
	}
}

// before reports whether a connection is closed before another one, if there are too many.
func (c *conn) before(d *conn) bool {
	if (c.state == reading) != (d.state == reading) {
		return c.state == reading
	}
	return c.due < d.due
}

// hangUp frees the place of a connection.
func (s *Server) hangUp(i int) {
	c := &s.conns[i]
	s.leave(c)
	if c.fd != 0 {
		unix.Close(c.fd)
		c.fd = 0
	}
}

// leave closes the connection to a server.
func (s *Server) leave(c *conn) {
	if c.server != 0 {
		unix.Close(c.server)
		c.server = 0
	}
}

// move goes on with a connection as far as it can.
func (s *Server) move(i int) {
	c := &s.conns[i]
	for range batch {
		if c.fd == 0 {
			return
		}
		var p progress
		switch c.state {
		case reading:
			if p = c.read(c.fd, s.mem.question(i)); p == whole {
				s.asks(i)
			}
		case sending:
			if p = c.write(c.server, s.mem.question(i)); p == whole {
				p = s.sent(i)
			}
		case receiving:
			if p = c.read(c.server, s.mem.answer(i)); p == whole {
				s.received(i)
			}
		case writing:
			if p = c.write(c.fd, s.mem.answer(i)); p == whole {
				s.expect(c, i, reading, unix.EPOLLIN)
			}
		}
		switch {
		case p == waits:
			s.listen(c, i)
			return
		case p == closed && (c.state == sending || c.state == receiving):
			s.redial(i)
		case p == closed:
			s.hangUp(i)
		}
	}
	s.listen(c, i)
}

// listen has the room for an answer watched that could not be written at once.
func (s *Server) listen(c *conn, i int) {
	if c.fd != 0 && c.state == writing {
		s.expect(c, i, writing, unix.EPOLLOUT)
	}
}

// progress is how far a message has come.
type progress uint8

const (
	some   progress = iota
	whole           // all of it
	waits           // there is no more now
	closed          // there will be no more
)

// read reads a message on: its length first, and no more than it says.
func (c *conn) read(fd int, b []byte) progress {
	end := 2
	if c.at >= 2 {
		end += int(binary.BigEndian.Uint16(b))
	}
	if end == 2 && c.at == 2 {
		return closed // nothing is no message
	}
	n, err := unix.Read(fd, b[c.at:end])
	return c.done(n, err, b)
}

// write writes a message on.
func (c *conn) write(fd int, b []byte) progress {
	n, err := unix.Write(fd, b[c.at:2+int(binary.BigEndian.Uint16(b))])
	return c.done(n, err, b)
}

func (c *conn) done(n int, err error, b []byte) progress {
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return waits
	case err != nil || n <= 0:
		return closed
	}
	if c.at += n; c.at > 2 && c.at == 2+int(binary.BigEndian.Uint16(b)) {
		return whole
	}
	return some
}

// expect changes what a connection is at, and what is waited for from the container.
func (s *Server) expect(c *conn, i int, next state, events uint32) {
	if c.state != next {
		c.state, c.at = next, 0
		c.due = s.now + idle
	}
	if c.events != events && s.watch(unix.EPOLL_CTL_MOD, c.fd, tagConn+i, events) == nil {
		c.events = events
	}
}

// asks is for a question that is whole.
func (s *Server) asks(i int) {
	c := &s.conns[i]
	b := message(s.mem.question(i))
	out, v := s.local(s.mem.answer(i)[2:2], b, true)
	switch v {
	case answered:
		s.reply(i, out)
	case elsewhere:
		s.servers.look(s.now, s.mem.out)
		c.id, c.tries = binary.BigEndian.Uint16(b), 0
		s.redial(i)
	default:
		s.hangUp(i)
	}
}

// reply begins to write an answer, which is in its place.
func (s *Server) reply(i int, out []byte) {
	binary.BigEndian.PutUint16(s.mem.answer(i), uint16(len(out)))
	s.expect(&s.conns[i], i, writing, 0)
}

// message is what a length stands before.
func message(b []byte) []byte { return b[2 : 2+int(binary.BigEndian.Uint16(b))] }

// redial asks the next server. If there is none, that is the answer.
func (s *Server) redial(i int) {
	c := &s.conns[i]
	if c.server != 0 {
		s.leave(c)
		s.servers.blame(s.now, c.asking)
	}
	b := message(s.mem.question(i))
	for c.tries < s.servers.tries() {
		c.asking = s.servers.pick(s.now, c.tries, c.asking)
		c.tries++
		fd, err := s.dial(c.asking, unix.SOCK_STREAM, tagServer+i, unix.EPOLLOUT)
		if err != nil {
			continue
		}
		c.number = s.random()
		binary.BigEndian.PutUint16(b, c.number)
		s.expect(c, i, sending, 0)
		c.server, c.at, c.due = fd, 0, s.now+patience
		return
	}
	binary.BigEndian.PutUint16(b, c.id)
	s.question.parse(b)
	s.reply(i, s.question.refuse(s.mem.answer(i)[2:2], b, serverFailure))
}

// sent is for a question that a server has been sent.
func (s *Server) sent(i int) progress {
	c := &s.conns[i]
	c.state, c.at = receiving, 0
	if s.watch(unix.EPOLL_CTL_MOD, c.server, tagServer+i, unix.EPOLLIN) != nil {
		return closed
	}
	return whole
}

// received is for an answer that is whole.
func (s *Server) received(i int) {
	c := &s.conns[i]
	b := message(s.mem.answer(i))
	if !answers(b, message(s.mem.question(i)), c.number) {
		s.redial(i)
		return
	}
	s.leave(c)
	if unwilling(b) && s.servers.others(c.tries) {
		s.redial(i)
		return
	}
	binary.BigEndian.PutUint16(b, c.id)
	s.reply(i, b)
}

// late is for a connection on which nothing has come for too long.
func (s *Server) late(i int) {
	switch s.conns[i].state {
	case sending, receiving:
		s.redial(i)
	default:
		s.hangUp(i)
	}
}
