package connect

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/resolve"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wire"
	"github.com/cortenhq/corten/internal/wire/rules"
	"github.com/cortenhq/corten/internal/wiring"
)

// up connects the container, and is done then.
func (w *work) up() error {
	names, err := w.connect()
	if err != nil || w.doc == nil {
		return err
	}
	if names != nil {
		defer names.Close()
		if err := w.peer.ok(names.udp, names.tcp); err != nil {
			return err
		}
	}
	w.connected()
	return nil
}

// connect prepares and, when the container's process is there, puts its interfaces into it. What
// it has done it undoes if it does not succeed, or if who started us gives up: then there are no
// sockets and no error. They are there only if the container has a name server; else w.peer
// has been told.
func (w *work) connect() (*sockets, error) {
	err := w.locked(func() error { return w.prepare(false) })
	if err == nil && w.made {
		w.warn()
	}
	var pid int
	if err == nil {
		pid, err = w.peer.pid()
	}
	if err == nil && pid == 0 {
		err := w.disconnect()
		w.doc = nil
		return nil, err
	}
	var names *sockets
	if err == nil {
		names, err = w.inside(pid)
	}
	if err != nil {
		if derr := w.disconnect(); derr != nil {
			err = errors.Join(err, derr)
		}
		return nil, err
	}
	if names == nil {
		err = w.peer.ok()
	}
	return names, err
}

// prepare makes rules, bridges and settings what the document wants. The caller has the lock. anew says
// that the document has changed.
func (w *work) prepare(anew bool) error {
	if err := w.read(); err != nil {
		return err
	}
	if w.doc == nil {
		return errs.Newf(errs.NotFound, "connect container", w.id.Short(), "there is no document of it")
	}
	if w.doc.Plugged() {
		return nil
	}
	if err := w.switches(); err != nil {
		return err
	}
	changed, err := w.forwarding()
	if err != nil {
		return err
	}
	unknown, err := w.loop()
	if err != nil {
		return err
	}
	if anew || changed || unknown {
		err = w.remake(w.documents)
	} else {
		err = w.add()
	}
	if err == nil && publishesUDP(w.doc) {
		err = wire.ForgetPorts(w.doc.Ports)
	}
	return err
}

// add adds to the rules. If they are not there, or not as they should be, they are made anew.
func (w *work) add() error {
	err := w.rules.Add(w.doc, w.facts)
	switch {
	case errs.Is(err, errs.Exists):
		// A document says that one of our ports is its container's. That one has ended, or we could
		// not have the port: but when somebody disconnects it, the port has to stay with us.
		if err := os.WriteFile(w.file("contested"), nil, 0o600); err != nil {
			return errs.Wrap("write", w.file("contested"), err)
		}
		return w.remake(w.documents)
	case errs.Is(err, errs.NotFound):
		return w.remake(w.documents)
	}
	return err
}

// switches makes the bridges and parents of the document's links.
func (w *work) switches() error {
	for _, l := range w.doc.Links {
		var err error
		switch {
		case l.Switch != nil:
			err = w.host.Bridge(l.Switch, l.MTU)
		case l.Parent != nil:
			err = w.host.Parent(l.Parent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func publishesUDP(d *wiring.Document) bool {
	for _, p := range d.Ports {
		if p.Protocol == spec.UDP {
			return true
		}
	}
	return false
}

// sockets are those of the name server.
type sockets struct{ udp, tcp int }

func (s *sockets) Close() {
	_ = unix.Close(s.udp)
	_ = unix.Close(s.tcp)
}

// inside puts the interfaces into the container, and the name server's sockets.
func (w *work) inside(pid int) (*sockets, error) {
	in, err := w.host.Enter(pid)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := in.Prepare(); err != nil {
		return nil, err
	}
	if w.doc.Plugged() {
		err = w.plug(in)
	} else {
		err = w.links(in)
	}
	if err != nil {
		return nil, err
	}
	if w.doc.Resolver == nil {
		return nil, nil
	}
	return w.names(in)
}

func (w *work) links(in *wire.Inside) error {
	for _, l := range w.doc.Links {
		if err := w.host.Connect(in, l, len(w.doc.Ports) > 0); err != nil {
			return errs.Wrap("connect to network", l.Network, err)
		}
	}
	return nil
}

func (w *work) names(in *wire.Inside) (*sockets, error) {
	s := &sockets{}
	err := in.Do(func() (err error) {
		if s.udp, s.tcp, err = resolve.Listen(w.doc.Resolver.Port); err != nil {
			return err
		}
		c, err := rules.Open()
		if err == nil {
			defer c.Close()
			err = c.LeadNames(w.doc.Resolver.Port)
		}
		if err != nil {
			s.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// change makes a running container's interfaces and rules what its document says now.
func (w *work) change() error {
	if err := w.locked(func() error { return w.prepare(true) }); err != nil {
		return err
	}
	pid, err := w.peer.pid()
	if err != nil || pid == 0 {
		return err
	}
	in, err := w.host.Enter(pid)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Surplus(w.doc.Links); err != nil {
		return err
	}
	for _, l := range w.doc.Links {
		there, err := in.Has(l.Interface)
		if err == nil && there {
			if err = w.host.Limit(in, l); err == nil {
				err = in.Lead(l)
			}
		} else if err == nil {
			err = w.host.Connect(in, l, len(w.doc.Ports) > 0)
		}
		if err != nil {
			return errs.Wrap("connect to network", l.Network, err)
		}
	}
	w.old = append(w.old, &wiring.Document{ID: w.id}) // a bridge may have lost its last container
	return w.peer.ok()
}

// restore makes the tables again that somebody has removed.
func (w *work) restore() error {
	if err := w.locked(w.rulesAgain); err != nil {
		return err
	}
	return w.peer.ok()
}

func (w *work) rulesAgain() error {
	all, err := w.documents()
	if err != nil || len(all) == 0 {
		return err
	}
	w.facts.Respect = wiring.Respects(all)
	if _, err := w.forwarding(); err != nil {
		return err
	}
	there, err := rules.Present(w.facts)
	if err != nil || there && (!w.facts.Respect || w.host.HasLoop()) {
		return err
	}
	return w.remake(w.documents)
}

// prune does so too, and does not wait for who may come to a bridge.
func (w *work) prune() error {
	err := w.locked(func() error { return errors.Join(w.rulesAgain(), w.unused()) })
	if err != nil {
		return err
	}
	return w.peer.ok()
}
