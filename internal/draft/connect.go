package draft

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/usernet"
	"github.com/cortenhq/corten/internal/wiring"
)

// Connection is what a draft has of networks, from its claims until the container has ended.
type Connection struct {
	Doc *wiring.Document

	id    spec.ContainerID
	dirs  network.Dirs
	ports *network.Held
	mate  *network.Attendant // corten-net, at work
	names []*os.File         // sockets of the resolver, for who answers there
	plug  *usernet.Plug      // of an ordinary user, in place of all that
}

// Ports is a file that holds the ports of the host for who has it open; nil: there are none.
func (c *Connection) Ports() (*os.File, error) {
	if c == nil || c.ports == nil {
		return nil, nil
	}
	return c.ports.Box()
}

// HoldAgain is Ports for a container that runs without anybody who looks after it. What another program
// has taken meanwhile stays with that, though connections are led to the container all the same.
func HoldAgain(dirs container.Dirs, id spec.ContainerID) *os.File {
	doc, there, err := network.Document(NetDirs(dirs), id)
	if err != nil || !there || doc.Plugged() {
		return nil
	}
	var held network.Held
	patience := time.Now().Add(200 * time.Millisecond) // who answered at [::1] is killed with the keeper, but may not be dead
	for _, p := range published(dirs, doc) {
		h, err := network.Hold([]spec.Port{p}, nil, false)
		for errs.Is(err, errs.Busy) && time.Now().Before(patience) {
			time.Sleep(5 * time.Millisecond)
			h, err = network.Hold([]spec.Port{p}, nil, false)
		}
		if err == nil {
			held.Files = append(held.Files, h.Files...)
		}
	}
	defer held.Close()
	_, _ = held.Hear()
	box, _ := held.Box()
	return box
}

// Names is the UDP socket and the TCP listener of the container's resolver, if its keeper is to answer.
func (c *Connection) Names() []*os.File {
	if c == nil {
		return nil
	}
	return c.names
}

// published is the ports that Hold had for a document. One of every address is held in both families, though the
// container may have no address of one.
func published(dirs container.Dirs, doc *wiring.Document) []spec.Port {
	var list []spec.Port
	for _, f := range doc.Ports {
		list = append(list, spec.Port{Service: f.Service, HostIP: f.HostIP, HostPort: f.HostPort})
	}
	c, err := container.ReadSpec(dirs, doc.ID)
	if err != nil {
		return list
	}
	for _, f := range doc.Ports {
		six := spec.Port{Service: f.Service, HostIP: netip.IPv6Unspecified(), HostPort: f.HostPort}
		everywhere := func(p spec.Port) bool {
			return p.Service == f.Service && !p.HostIP.IsValid() && (p.HostPort == 0 || p.HostPort <= f.HostPort && f.HostPort <= max(p.HostPort, p.HostEnd))
		}
		if f.HostIP == netip.IPv4Unspecified() && !slices.Contains(list, six) && (c.Networking.PublishAll || slices.ContainsFunc(c.Networking.Ports, everywhere)) {
			list = append(list, six)
		}
	}
	return list
}

// connect claims addresses and ports and has corten-net begin.
func (d *Draft) connect() (err error) {
	if !d.Spec.Connected() {
		return nil
	}
	c := &Connection{id: d.Spec.ID, dirs: d.netDirs()}
	d.Net = c
	n := d.Spec.Networking
	if nest.Inside() {
		if c.plug, err = usernet.New(c.dirs.Run, d.Spec, d.namesNear()); err == nil {
			c.Doc = c.plug.Doc
		}
		return err
	}
	if c.ports, err = network.Hold(n.Ports, n.Expose, n.PublishAll); err != nil {
		return err
	}
	if c.Doc, err = network.Claim(c.dirs, d.Spec, c.ports.Ports, d.resolver()); err != nil {
		return err
	}
	if c.Doc.Plugged() { // a plugin may want the ports itself
		c.ports.Close()
		c.ports = nil
	}
	return c.begin(d.kept())
}

// begin has corten-net begin. Of a container in the foreground it answers at the ports of [::1], too; else the keeper does.
func (c *Connection) begin(kept bool) error {
	mode, boxes := network.Tend, []*os.File(nil)
	if kept {
		mode = network.Up
	}
	if c.ports != nil {
		hear, err := c.ports.Hear()
		if err == nil && !kept && len(hear) > 0 {
			var box *os.File
			if box, err = (&network.Held{Files: hear}).Box(); err == nil {
				defer box.Close()
				boxes = append(boxes, box)
			}
		}
		if err != nil {
			return err
		}
	}
	var err error
	c.mate, err = network.Begin(c.dirs, mode, c.id, boxes...)
	return err
}

// likely fills in what connect would, without touching anything.
func (d *Draft) likely() (err error) {
	if !d.Spec.Connected() {
		return nil
	}
	d.Net = &Connection{dirs: d.netDirs()}
	if nest.Inside() {
		if d.Net.plug, err = usernet.Likely(d.Net.dirs.Run, d.Spec, d.namesNear()); err == nil {
			d.Net.Doc = d.Net.plug.Doc
		}
		return err
	}
	d.Net.Doc, err = network.Likely(d.Net.dirs, d.Spec, d.Spec.Networking.Ports, d.resolver())
	return err
}

func (d *Draft) netDirs() network.Dirs { return NetDirs(d.Site.Dirs) }

// NetDirs is where networks are, of where containers are.
func NetDirs(dirs container.Dirs) network.Dirs { return network.Dirs{Root: dirs.Root, Run: dirs.Run} }

// namesNear reports whether the servers of names are the host's alone: a container that does not share
// its loopback cannot ask them.
func (d *Draft) namesNear() bool { return len(hostResolvConf().over(d.Spec.Networking).remote()) == 0 }

// resolver says whether the container has a server of names of its own: if a keeper is there to
// answer, if there are names to know, or if the host's servers are not to be reached from inside.
func (d *Draft) resolver() network.Names {
	n := d.Spec.Networking
	named := slices.ContainsFunc(n.Attachments, func(a spec.Attachment) bool { return a.Network != spec.DefaultNetwork })
	if !d.kept() && !named && len(hostResolvConf().over(n).remote()) > 0 {
		return network.Names{}
	}
	return network.Names{Wanted: true, Upstream: n.DNS}
}

// tell is plan.Connect: corten-net is told of the process, and waited for later.
func (c *Connection) tell(pid int) (func() error, error) {
	if c.plug != nil {
		return c.plug.Connect(pid)
	}
	if err := c.mate.Tell(pid); err != nil {
		return nil, err
	}
	return func() (err error) {
		if c.names, err = c.mate.Await(); err == nil && c.Doc.Plugged() {
			c.Doc, _, err = network.Document(c.dirs, c.id) // with what plugins say
		}
		return err
	}, nil
}

// Finish begins to disconnect a container in the foreground; End waits for that.
func (c *Connection) Finish() {
	if c != nil && c.mate != nil {
		c.mate.Finish()
	}
}

// End disconnects the container and gives back what it claimed. It may be called twice.
func (c *Connection) End() error {
	if c == nil {
		return nil
	}
	c.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if c.mate != nil {
		err := c.mate.End(ctx)
		c.mate = nil
		if err == nil {
			return nil
		}
	}
	return Disconnect(ctx, c.dirs, c.id)
}

// Left is what plugins could not undo after End, which nobody waits for: it is tried again.
func (c *Connection) Left() error {
	if c == nil || c.Doc == nil || !c.Doc.Plugged() {
		return nil
	}
	left, err := cni.LeftOf(c.dirs.Run, c.id)
	return errors.Join(err, left.Err())
}

// Disconnect takes a container off its networks that nobody looks after any more, or nobody did yet.
func Disconnect(ctx context.Context, dirs network.Dirs, id spec.ContainerID) error {
	if nest.Inside() {
		return usernet.Down(dirs.Run, id)
	}
	return network.Down(ctx, dirs, id)
}

// close closes what this process has open of it.
func (c *Connection) close() {
	if c.ports != nil {
		c.ports.Close()
	}
	for _, f := range c.names {
		_ = f.Close()
	}
	c.ports, c.names = nil, nil
	if c.plug != nil {
		c.plug.Close()
	}
}

// joinOther puts the id in the place of the name of the container whose network is joined.
func (d *Draft) joinOther() error {
	ns := &d.Spec.Namespaces.Net
	if ns.Mode != spec.Of {
		return nil
	}
	id, err := container.Find(d.Site.Dirs, ns.Path)
	ns.Path = string(id)
	return errs.Wrap("join network of container", "", err)
}

// openOther opens the network namespace of another container. It gives the file a path, and says
// how that container is connected.
func (d *Draft) openOther() (err error) {
	if d.Spec.Namespaces.Net.Mode != spec.Of {
		return nil
	}
	s, err := container.Load(d.Site.Dirs, spec.ContainerID(d.Spec.Namespaces.Net.Path))
	if err != nil {
		return errs.Wrap("join network of container", spec.ContainerID(d.Spec.Namespaces.Net.Path).Short(), err)
	}
	f, err := os.Open("/proc/" + strconv.Itoa(s.State.PID) + "/ns/net")
	if err == nil && container.Ticks(s.State.PID) != s.State.StartTicks { // the number is another's by now
		f.Close()
		err = os.ErrNotExist
	}
	if err != nil {
		return errs.Newf(errs.Busy, "join network of container", s.Spec.Name, "it does not run").
			WithHint("start it first: corten start " + s.Spec.Name)
	}
	d.other = &other{ns: f, spec: s.Spec}
	d.other.doc, _, err = network.Document(d.netDirs(), s.Spec.ID)
	return err
}

// other is a container whose network this one is in.
type other struct {
	ns   *os.File
	spec *spec.Container
	doc  *wiring.Document // nil: it is not connected to networks
}
