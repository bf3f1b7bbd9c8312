// Package resolve is the server of names of one container.
//
// A container asks at 127.0.0.11 (wiring.ResolverIP). Names of containers on its networks are
// looked up in the files below RUN/net for each question, since they come and go; any other
// question goes to the servers of the host, from the network of the process that the Server is
// in. A question is passed on as it came, but for the number by which its answer is found again,
// and so is the answer: one that was cut is, and the container asks once more by a connection.
//
// It is linked into corten-keeper, one thread that waits for descriptors and that must stay small:
// a Server never waits, leaves no garbage, has its messages outside of Go's heap and gives that
// memory back when nobody asks. How much there may be of anything is fixed. What a container or
// a server sends is believed nowhere.
package resolve

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Config says what a Server answers, and whom it asks for what it does not know.
type Config struct {
	Folder   string   // RUN/net
	Networks []string // whose names it knows, in the order in which they are looked at
	Upstream []string // addresses of servers, IPv6 with or without a zone; none: the host's
	Alone    bool     // nobody is asked
}

// Never is the time at which a Server wants to be called that waits for descriptors only.
const Never = int64(1<<63 - 1)

// What an event is about: these, and the place of a question or connection.
const (
	tagUDP    = 0
	tagTCP    = 1
	tagAsked  = 2
	tagConn   = tagAsked + maxAsked
	tagServer = tagConn + maxConns
)

// batch is how much is done of one thing before others have their turn.
const batch = 64

// Server answers the questions of one container.
type Server struct {
	sockets
	finder   finder
	servers  servers
	alone    bool
	mem      memory
	question question // the one that is being answered
	asked    [maxAsked]asked
	high     int    // all places of asked from here on are free
	count    uint64 // of questions that were passed on
	conns    [maxConns]conn
	now      int64
	calm     int64 // when to give memory back
	handover int64 // when not to be busy any more
}

// sockets are what a Server waits for, and what system calls want to have in one place so that they
// leave no garbage.
type sockets struct {
	poll     int
	udp, tcp int
	events   [32]unix.EpollEvent
	event    unix.EpollEvent
	from, to unix.SockaddrInet4
	dice     [2]byte
}

// New makes a server for sockets that Listen made, which stay the caller's.
func New(c Config, udp, tcp int) (*Server, error) {
	s := &Server{sockets: sockets{udp: udp, tcp: tcp}, servers: newServers()}
	var err error
	if s.mem, err = newMemory(); err != nil {
		return nil, errs.Wrap("make memory for", "name server", err)
	}
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		err = s.watch(unix.EPOLL_CTL_ADD, udp, tagUDP, unix.EPOLLIN)
	}
	if err == nil {
		err = s.watch(unix.EPOLL_CTL_ADD, tcp, tagTCP, unix.EPOLLIN)
	}
	if err != nil {
		s.Close()
		return nil, errs.Wrap("watch sockets of", "name server", err)
	}
	s.servers.self = ourselves(udp)
	s.Order(c)
	return s, nil
}

// FD is a descriptor that can be read from, for poll(2) and epoll(7), when there is something to
// do: level-triggered.
func (s *Server) FD() int { return s.poll }

// Order has the server answer by another Config from now on. What was passed on is forgotten.
func (s *Server) Order(c Config) {
	for i := range s.high {
		s.forget(i)
	}
	for i := range s.conns {
		s.hangUp(i)
	}
	s.alone = c.Alone
	s.finder.order(c)
	s.servers.order(c)
}

// Busy reports whether to wait with putting another server in the place of this one, since answers
// are expected that it would not know. Who asks more and more puts that off for a few seconds only.
func (s *Server) Busy(now int64) bool {
	used := func(a asked) bool { return a.fd != 0 }
	open := func(c conn) bool { return c.fd != 0 }
	if !slices.ContainsFunc(s.asked[:s.high], used) && !slices.ContainsFunc(s.conns[:], open) {
		s.handover = 0
		return false
	}
	if s.handover == 0 {
		s.handover = now + 5*second
	}
	return now < s.handover
}

// Close lets go of all but the two sockets.
func (s *Server) Close() {
	for i := range s.high {
		s.forget(i)
	}
	for i := range s.conns {
		s.hangUp(i)
	}
	unix.Close(s.poll)
	_ = unix.Munmap(s.mem.all)
}

// Turn does what there is to do, without waiting. now is of a monotonic clock, in ns; next is when
// it wants to be called again though FD says nothing.
func (s *Server) Turn(now int64) (next int64) {
	s.now = now
	n, _ := unix.EpollWait(s.poll, s.events[:], 0)
	for i := range max(n, 0) {
		s.mem.dirty = true
		s.happened(int(s.events[i].Fd), s.events[i].Events)
	}
	if n > 0 {
		s.calm = now + second
	}
	if next = s.expire(); next == Never && s.mem.dirty {
		if now < s.calm {
			return s.calm
		}
		s.mem.release()
	}
	return next
}

// happened is for an event.
func (s *Server) happened(tag int, events uint32) {
	switch {
	case tag == tagUDP:
		s.datagrams()
	case tag == tagTCP:
		s.accept()
	case tag < tagConn:
		s.came(tag - tagAsked)
	case tag < tagServer && events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
		s.hangUp(tag - tagConn)
	case tag < tagServer:
		s.move(tag - tagConn)
	default:
		s.move(tag - tagServer)
	}
}

// expire looks for what has waited too long, and returns when that is to be done next.
func (s *Server) expire() (next int64) {
	next = Never
	high := 0
	for i := range s.asked[:s.high] {
		a := &s.asked[i]
		if a.fd != 0 && a.due <= s.now {
			s.overdue(i)
		}
		if a.fd != 0 {
			next, high = min(next, a.due), i+1
		}
	}
	s.high = high
	for i := range s.conns {
		c := &s.conns[i]
		if c.fd != 0 && c.due <= s.now {
			s.late(i)
		}
		if c.fd != 0 {
			next = min(next, c.due)
		}
	}
	return next
}

// watch has events of a descriptor reported, or others than before.
func (s *sockets) watch(op, fd, tag int, events uint32) error {
	s.event = unix.EpollEvent{Events: events, Fd: int32(tag)}
	return unix.EpollCtl(s.poll, op, fd, &s.event)
}

// random is a number that nobody can guess.
func (s *sockets) random() uint16 {
	_, _ = unix.Getrandom(s.dice[:], 0)
	return binary.NativeEndian.Uint16(s.dice[:])
}

// verdict is what becomes of a message.
type verdict uint8

const (
	nothing   verdict = iota // it is not to be answered, or not yet
	answered                 // the answer is there
	elsewhere                // others have to be asked
)

// local appends the answer to a message as far as nobody has to be asked for it. long: it may be
// as long as a message can be.
func (s *Server) local(out, b []byte, long bool) ([]byte, verdict) {
	q := &s.question
	code := q.parse(b)
	if code < 0 {
		return out, nothing
	}
	if long {
		q.size = maxMessage
	}
	if code != noError {
		return q.refuse(out, b, code), answered
	}
	if out, known := s.finder.answer(out, b, q); known {
		return out, answered
	}
	if s.alone { // not SERVFAIL, after which some resolvers leave the rest of the search list out
		return q.refuse(out, b, nameError), answered
	}
	return out, elsewhere
}
