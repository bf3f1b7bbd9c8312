package plan

import "fmt"

// Steps of a filter with a listener, seccomp_unotify(2): what it holds up is answered by another program,
// the agent. The kernel gives the listener to the process that installs the filter, and it is the
// launcher who hands it over: from the filter on the process may need the agent for any system call.
type (
	// MakeWay makes a pair of sockets, by which the process says that it is about to install the filter, and
	// waits until the listener is with the agent.
	MakeWay struct {
		Ours Handle `json:"ours"`
		Way  Handle `json:"way"` // the process's
	}

	// HandOver takes the listener out of the process and sends it to the agent.
	HandOver struct {
		To string `json:"to"` // a Unix socket
	}
)

// Handles of a listener.
const (
	ListenerTell Handle = "tell of the listener"
	ListenerWay  Handle = "way of the listener"
)

func (MakeWay) Kind() string  { return "make-way" }
func (HandOver) Kind() string { return "hand-over" }

func (MakeWay) String() string { return "make a way for the listener of the seccomp filter" }
func (s HandOver) String() string {
	return fmt.Sprintf("hand the listener of the seccomp filter over to %s", s.To)
}

func (s MakeWay) opens() []Handle { return []Handle{s.Ours, s.Way} }
func (s HandOver) uses() []Handle { return []Handle{ListenerTell} }
func (s Seccomp) uses() []Handle  { return []Handle{s.Way} }
