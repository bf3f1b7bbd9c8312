package connect

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/wire"
	"github.com/cortenhq/corten/internal/wire/rules"
	"github.com/cortenhq/corten/internal/wiring"
)

// down disconnects the container, whichever start it was connected for.
func (w *work) down() error {
	w.known = true
	if err := w.disconnectBy(func(*wiring.Document) error { return network.Forget(w.dirs, w.id) }); err != nil {
		return err
	}
	return w.peer.ok()
}

// disconnect takes back what this process has connected. If the container has been started anew since
// then, somebody has done so already.
func (w *work) disconnect() error {
	if w.doc == nil {
		return nil
	}
	start := w.doc.Start
	return w.disconnectBy(func(now *wiring.Document) error {
		if now == nil || now.Start != start {
			return nil
		}
		return network.ForgetStart(w.dirs, now)
	})
}

// disconnectBy takes the rules away that a document has, and has it forgotten: after that its
// addresses and ports may be anybody's.
func (w *work) disconnectBy(forget func(*wiring.Document) error) error {
	mine := ""
	if w.doc != nil {
		mine = w.doc.Start
	}
	if err := w.unplug(mine); err != nil {
		return err
	}
	return w.locked(func() error {
		// What cannot be read is forgotten all the same; its rules go when all are made anew.
		derr := w.read()
		if w.doc != nil && mine != "" && w.doc.Start != mine {
			return nil
		}
		n, err := w.others()
		if err != nil {
			return err
		}
		if n == 0 {
			err = w.last()
		} else {
			err = w.remove(derr != nil)
		}
		if err != nil {
			return err
		}
		doc := w.doc
		if doc != nil && !doc.Plugged() {
			if err := w.host.Cut(doc); err != nil {
				return err
			}
		}
		if err := forget(doc); err != nil {
			return err
		}
		if doc != nil {
			w.old, w.doc = append(w.old, doc), nil
		}
		return nil
	})
}

// last takes away what is on the host for all containers.
func (w *work) last() error {
	settings, err := wire.LoadSettings(w.file("host"))
	if err != nil {
		return err
	}
	w.quiet(settings)
	if err := w.rules.Delete(w.facts); err != nil {
		return err
	}
	w.removed = time.Now()
	if err := os.Remove(w.file("contested")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errs.Wrap("remove", w.file("contested"), err)
	}
	var mine []*wiring.Document
	if w.doc != nil {
		mine = append(mine, w.doc)
	}
	return w.host.Restore(w.file("host"), mine)
}

// remove takes the document's elements out of the rules.
func (w *work) remove(unreadable bool) error {
	if w.doc != nil && w.doc.Plugged() || w.doc == nil && !unreadable {
		return nil // it had no elements: the document is there before them, and goes after them
	}
	_, contested := os.Stat(w.file("contested"))
	err := error(errs.New(errs.NotFound, "", "", nil))
	if contested != nil && w.doc != nil {
		err = w.rules.Remove(w.doc, w.facts)
		w.removed = time.Now()
	}
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	settings, err := wire.LoadSettings(w.file("host"))
	if err != nil {
		return err
	}
	w.quiet(settings)
	return w.remake(w.withoutOurs)
}

// idle is how long a bridge stays that no container is on.
const idle = time.Second

// linger does what nobody waits for, and stays until the kernel is done with what was deleted.
func (w *work) linger() {
	w.peer.close()
	var addresses []netip.Addr
	for _, d := range w.old {
		if w.known {
			w.tell("disconnect", d)
		}
		for _, l := range d.Links {
			for _, a := range l.Addresses {
				addresses = append(addresses, a.Addr())
			}
		}
	}
	if len(addresses) > 0 {
		_ = wire.Forget(addresses) // a host without conntrack knows no connections
	}
	if len(w.old) > 0 {
		_ = w.sweep()
	}
	if !w.removed.IsZero() {
		time.Sleep(time.Until(w.removed.Add(rules.RestMillis * time.Millisecond)))
	}
}

// sweep deletes the bridges that no container has come to for a while. One process does so
// for all whose last container ends meanwhile: it lets go of its lock while nobody can forget a document.
func (w *work) sweep() error {
	unlock, err := disk.TryLock(w.file("linger"))
	if errs.Is(err, errs.Busy) {
		return nil
	}
	time.Sleep(idle)
	if err == nil {
		err = w.locked(func() error {
			defer unlock()
			return w.unused()
		})
	}
	if errors.Is(err, fs.ErrNotExist) { // the folder is gone, and so is everybody who could want a bridge
		_, err = w.host.Unused(nil, w.old)
	}
	return err
}

// unused deletes what no document names, and has the rules say nothing of it either.
func (w *work) unused() error {
	all, err := w.documents()
	if err != nil {
		return err
	}
	gone, err := w.host.Unused(all, w.old)
	if len(gone) > 0 && len(all) > 0 {
		s, serr := wire.LoadSettings(w.file("host"))
		w.quiet(s)
		err = errors.Join(err, serr, w.remake(w.documents))
	}
	return err
}
