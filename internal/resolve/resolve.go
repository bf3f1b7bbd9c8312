// Package resolve is the server of names of one container.
//
// A container asks at 127.0.0.11 (wiring.ResolverIP). Names of containers on its networks are
// looked up in the files below RUN/net for each question, since they come and go; any other
// question goes to the servers of the host, from the network of the process that the Server is
// in. A question is passed on as it came, but for the number by which its answer is found again.
//
// It is linked into corten-keeper, one thread that waits for descriptors and that must stay small:
// a Server never waits, has all its memory outside of Go's heap and gives it back when nobody asks.
package resolve

// Config says what a Server answers, and whom it asks for what it does not know.
type Config struct {
	Folder   string   // RUN/net
	Networks []string // whose names it knows, in the order in which they are looked at
	Upstream []string // addresses of servers, IPv6 with or without a zone; none: the host's
	Alone    bool     // nobody is asked
}

// Never is the time at which a Server wants to be called that waits for descriptors only.
const Never = int64(1<<63 - 1)

// Server answers the questions of one container.
type Server struct {
	config   Config
	poll     int
	udp, tcp int
}

// New makes a server for sockets that Listen made, which stay the caller's.
func New(c Config, udp, tcp int) (*Server, error) {
	return &Server{config: c, poll: -1, udp: udp, tcp: tcp}, nil
}

// FD is a descriptor that can be read from, for poll(2) and epoll(7), when there is something to
// do: level-triggered.
func (s *Server) FD() int { return s.poll }

// Turn does what there is to do, without waiting. now is of a monotonic clock, in ns; next is when
// it wants to be called again though FD says nothing.
func (s *Server) Turn(now int64) (next int64) { return Never }

// Order has the server answer by another Config from now on.
func (s *Server) Order(c Config) { s.config = c }

// Close lets go of all but the two sockets.
func (s *Server) Close() {}
