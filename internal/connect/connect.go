// Package connect is what corten-net does: it makes true on the host how a container is to be
// connected, and undoes it.
//
// A document in RUN/net/wired says how (package wiring). Who connects a container prepares first: the
// rules and bridges, under the lock of RUN/net, while others still make the container; then the
// interfaces, when its first process is there, which waits for that. Who disconnects it
// takes away the rules, then names, addresses and document. What the kernel is slow at nobody waits for:
// pairs of interfaces go with the container's namespace, and bridges, and what conntrack knows, after
// everybody has been told that all is done (linger).
//
// Every mode may be killed anywhere and done again; what it finds done is no error. When tables are not as
// documents say, they are made anew from all documents.
package connect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wire"
	"github.com/cortenhq/corten/internal/wire/rules"
	"github.com/cortenhq/corten/internal/wire/standing"
	"github.com/cortenhq/corten/internal/wiring"
)

// Request is what corten-net is asked for.
type Request struct {
	Mode string // tend, up, down, restore, prune, change, proxy, unplug, look
	Dirs network.Dirs
	ID   spec.ContainerID // not of restore, prune, unplug and look
	FD   int              // of the socket to who started it; not a socket, if it was called by hand
	Box  int              // of tend and proxy: the box of ports at which they answer; not a socket: none
}

// Do does it. Who asked has been told when it returns, also of an error.
func Do(r Request) error {
	w := &work{dirs: r.Dirs, id: r.ID, peer: newPeer(r.FD), box: newBox(r.Box)}
	err := w.open()
	if err == nil {
		defer w.close()
		switch r.Mode {
		case "tend":
			err = w.tend()
		case "up":
			err = w.up()
		case "down":
			err = w.down()
		case "restore":
			err = w.restore()
		case "prune":
			err = w.prune()
		case "change":
			err = w.change()
		case "proxy":
			err = w.proxy()
		case "unplug":
			err = w.unplugLeft()
		case "look":
			err = w.look()
		default:
			err = errs.Newf(errs.Invalid, "run corten-net", r.Mode, "there is no such mode")
		}
	}
	if err != nil {
		w.peer.fail(advice.Add(err))
	}
	w.linger()
	return err
}

// work is what one process does for one container.
type work struct {
	dirs  network.Dirs
	id    spec.ContainerID
	peer  *peer
	box   int // of ports; -1: there is none
	host  *wire.Host
	rules *rules.Conn
	facts rules.Facts
	doc   *wiring.Document // nil: it is not there, or no more

	made    bool               // the tables have been made anew
	known   bool               // that it was connected is written down
	removed time.Time          // when rules were deleted last
	old     []*wiring.Document // whose interfaces and connections nobody has looked after yet
}

func (w *work) open() (err error) {
	if w.host, err = wire.Open(w.dirs.Run); err != nil {
		return err
	}
	if w.rules, err = rules.Open(); err != nil {
		w.host.Close()
		return err
	}
	w.facts = rules.Facts{Name: standing.Table(w.dirs.Run), Pairs: wiring.PairPrefix(w.dirs.Run), IPv6: wire.HasIPv6(), Loop: wiring.LoopOf(w.dirs.Run)}
	return nil
}

func (w *work) close() {
	w.rules.Close()
	w.host.Close()
}

// file is one below RUN/net.
func (w *work) file(name string) string { return filepath.Join(w.dirs.Run, "net", name) }

// locked does what changes bridges and rules.
func (w *work) locked(f func() error) error {
	unlock, err := disk.Lock(w.file("lock"))
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// read reads our document.
func (w *work) read() (err error) {
	var there bool
	w.doc, there, err = network.Document(w.dirs, w.id)
	if err == nil && !there {
		w.doc = nil
	}
	return err
}

// documents are all of them that rules and bridges are made for, ours last: what it says counts. One that cannot be read is of another
// version, or damaged: the others do not wait for it.
func (w *work) documents() ([]*wiring.Document, error) {
	all, err := network.Documents(w.dirs)
	if err != nil && len(all) == 0 {
		return nil, err
	}
	all = slices.DeleteFunc(all, (*wiring.Document).Plugged)
	for i, d := range all {
		if d.ID == w.id {
			return append(slices.Delete(all, i, i+1), d), nil
		}
	}
	return all, nil
}

// withoutOurs are all documents but ours.
func (w *work) withoutOurs() ([]*wiring.Document, error) {
	all, err := w.documents()
	return slices.DeleteFunc(all, func(d *wiring.Document) bool { return d.ID == w.id }), err
}

// others counts the documents of other containers that rules and bridges are for.
func (w *work) others() (int, error) {
	entries, err := os.ReadDir(w.file("wired"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n, plugged := 0, cni.Some(w.dirs.Run)
	for _, e := range entries {
		if id := spec.ContainerID(e.Name()); !strings.HasPrefix(e.Name(), ".") && id != w.id && !(plugged && isNamespace(w.namespace(id))) {
			n++
		}
	}
	return n, errs.Wrap("list", "connected containers", err)
}

// remake makes the tables anew from documents.
func (w *work) remake(documents func() ([]*wiring.Document, error)) error {
	all, err := documents()
	if err != nil {
		return err
	}
	w.removed = time.Now()
	if len(all) == 0 {
		return w.rules.Delete(w.facts)
	}
	if wiring.Respects(all) {
		if w.facts.Index, _, err = w.host.Loop(); err != nil {
			return err
		}
	}
	w.made = true
	err = w.rules.Make(rules.Of(all, w.facts), w.facts)
	if errors.Is(err, fs.ErrNotExist) && wiring.Respects(all) {
		return errs.New(errs.Unsupported, "lead published ports past the host's rules", "", err).
			WithHint("firewall=respect needs a kernel with CONFIG_NFT_DUP_IPV4 and CONFIG_NFT_DUP_IPV6 (Linux 4.3)")
	}
	return err
}

// loop makes sure that there is the loop if the document needs it, and reports whether the rules do not
// know of it or of who must not come to it.
func (w *work) loop() (unknown bool, err error) {
	if wiring.Respects([]*wiring.Document{w.doc}) {
		_, unknown, err = w.host.Loop()
	} else if w.doc.Secluded() {
		unknown = w.host.HasLoop()
	}
	return unknown, err
}

// quiet looks up for which interfaces the host does not forward.
func (w *work) quiet(s wire.Settings) {
	if s.Forward4 || s.Forward6 {
		w.facts.Quiet, w.facts.Quiet4, w.facts.Quiet6 = s.Quiet, s.Forward4, s.Forward6
	}
}

// forwarding has the host forward, and reports whether it did not until now.
func (w *work) forwarding() (bool, error) {
	s, changed, err := w.host.Forwarding(w.file("host"), w.documents)
	w.quiet(s)
	return changed, err
}
