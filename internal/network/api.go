package network

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

var errSoon = errors.New("not there yet")

func Create(d Dirs, r Request) (Network, error)     { return Network{}, errSoon }
func List(d Dirs) ([]Network, error)                { return nil, errSoon }
func Find(d Dirs, ref string) (Network, error)      { return Network{}, errSoon }
func Remove(d Dirs, ref string) error               { return errSoon }
func Default(d Dirs) (Network, error)               { return Network{}, errSoon }
func Members(d Dirs, name string) ([]Member, error) { return nil, errSoon }

// Member is a container that is on a network.
type Member struct {
	ID        spec.ContainerID
	Name      string
	Interface string
	Addresses []netip.Prefix
	MAC       string
}

// Names is who answers a container's questions for names.
type Names struct {
	Wanted   bool     // a resolver of the container's own, at wiring.ResolverIP
	Upstream []string // the addresses of servers that it asks; none: the host's
}

func Claim(d Dirs, c *spec.Container, ports []spec.Port, n Names) (*wiring.Document, error) {
	return nil, errSoon
}
func Likely(d Dirs, c *spec.Container, ports []spec.Port, n Names) (*wiring.Document, error) {
	return nil, errSoon
}

// Forget gives back all that the container id has here, whichever start it was for: for who has the container's lock.
func Forget(d Dirs, id spec.ContainerID) error { return errSoon }

// ForgetStart is Forget for the start that doc was made for; nothing if another has come since. For who tended it.
func ForgetStart(d Dirs, doc *wiring.Document) error { return errSoon }

// Document reads one; false: there is none.
func Document(d Dirs, id spec.ContainerID) (*wiring.Document, bool, error) {
	return nil, false, errSoon
}
func Documents(d Dirs) ([]*wiring.Document, error) { return nil, errSoon }

// Extend, Shrink and Rates write what becomes true by Change, which also gives back the addresses that are no longer used.
func Extend(d Dirs, c *spec.Container, a spec.Attachment) (*wiring.Document, error) {
	return nil, errSoon
}
func Shrink(d Dirs, id spec.ContainerID, network string) (*wiring.Document, error) {
	return nil, errSoon
}
func Rates(d Dirs, id spec.ContainerID, r spec.Rate) (*wiring.Document, error) { return nil, errSoon }

// Held is ports of the host that nobody else can have.
type Held struct {
	Files []*os.File  // sockets: the ports are held until the last copies of them are closed
	Ports []spec.Port // each with its port of the host
}

func (h *Held) Close() error                                                 { return errSoon }
func Hold(ports []spec.Port, expose []spec.Service, all bool) (*Held, error) { return nil, errSoon }

// Mode is what corten-net is to do.
type Mode string

const (
	Tend    Mode = "tend"
	Up      Mode = "up"
	downs   Mode = "down"
	restore Mode = "restore"
	change  Mode = "change"
)

// Attendant is corten-net, at work for a container.
type Attendant struct{}

func Begin(d Dirs, m Mode, id spec.ContainerID) (*Attendant, error) { return nil, errSoon }
func (a *Attendant) Tell(pid int) error                             { return errSoon }
func (a *Attendant) Await() ([]*os.File, error)                     { return nil, errSoon }
func (a *Attendant) Connect(pid int) ([]*os.File, error)            { return nil, errSoon }
func (a *Attendant) Finish()                                        {}
func (a *Attendant) End(ctx context.Context) error                  { return errSoon }
func (a *Attendant) Close() error                                   { return errSoon }

func Down(ctx context.Context, d Dirs, id spec.ContainerID) error   { return errSoon }
func Restore(ctx context.Context, d Dirs) error                     { return errSoon }
func Change(ctx context.Context, d Dirs, id spec.ContainerID) error { return errSoon }
