package network

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// What is changed while a container runs is written into its document (Extend, Shrink, Rates) and then
// made true by corten-net (Change). Meanwhile a mark says that there may be claims which the
// document does not name: of a link that is not yet there, or not yet gone. When all is true
// they are given back (settle); whoever forgets a container with a mark looks for them everywhere.

// mark is where the mark is: fileNames leaves it out.
func (d Dirs) mark(id spec.ContainerID) string { return filepath.Join(d.wired(), "."+string(id)) }

// Extend connects a running container to one more network, as its document has it; c says
// its names. Change makes it true.
func Extend(d Dirs, c *spec.Container, a spec.Attachment) (*wiring.Document, error) {
	if onDefault(a) {
		if _, err := Default(d); err != nil {
			return nil, err
		}
	}
	unlock, err := d.lockNetworks(disk.Shared)
	if err != nil {
		return nil, errs.Wrap("connect container", c.Name, err)
	}
	defer unlock()
	doc, err := revise(d, c.ID, func(b *builder) error {
		b.c, b.name = c, c.Name
		err := b.attach(a)
		if err == nil {
			err = b.publishNames(b.doc.Links[len(b.doc.Links)-1])
		}
		if err != nil {
			b.giveBack()
			return errs.Wrap("connect to network", a.Network, err)
		}
		return nil
	})
	return doc, errs.Wrap("connect container", c.Name, err)
}

// Shrink takes a running container off a network, as its document has it. Change makes it true, and
// gives back the addresses; the names are gone now.
func Shrink(d Dirs, id spec.ContainerID, network string) (*wiring.Document, error) {
	doc, err := revise(d, id, func(b *builder) error {
		i := slices.IndexFunc(b.doc.Links, func(l wiring.Link) bool { return l.Network == network })
		if i < 0 {
			return errs.Newf(errs.NotFound, "disconnect from network", network, "the container is not on it").
				WithHint("corten inspect shows which ones it is on")
		}
		dropNames(d, id, b.doc.Links[i])
		b.doc.Links, b.nets = slices.Delete(b.doc.Links, i, i+1), slices.Delete(b.nets, i, i+1)
		return nil
	})
	return doc, errs.Wrap("disconnect container", id.Short(), err)
}

// Rates gives the links of a running container the rates that its description has now, as its
// document has it. Change makes it true.
func Rates(d Dirs, c *spec.Container) (*wiring.Document, error) {
	doc, err := revise(d, c.ID, func(b *builder) error {
		for i := range b.doc.Links {
			l := &b.doc.Links[i]
			a := spec.Attachment{}
			if j := slices.IndexFunc(c.Networking.Attachments, func(a spec.Attachment) bool { return a.Network == l.Network }); j >= 0 {
				a = c.Networking.Attachments[j]
			}
			l.Rate = rateOf(c, a)
		}
		return nil
	})
	return doc, errs.Wrap("change rates of container", c.Name, err)
}

// revise changes a document under the lock.
func revise(d Dirs, id spec.ContainerID, change func(*builder) error) (*wiring.Document, error) {
	unlock, err := d.lockWired()
	if err != nil {
		return nil, err
	}
	defer unlock()
	doc, ok, err := Document(d, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errs.Newf(errs.NotFound, "", "", "it is not running with a network of its own").WithHint("start it first: corten start " + id.Short())
	}
	if doc.Plugged() {
		return nil, errs.Newf(errs.Unsupported, "", "", "plugins connect it ("+doc.Links[0].Network+"), and they are told all at its start").
			WithHint("stop it first; what is changed then counts for its next start")
	}
	b := &builder{claims: claims{dirs: d, id: id, locked: true}, doc: doc, c: &spec.Container{}}
	for _, l := range doc.Links {
		n, err := load(d, l.Network)
		if err != nil {
			return nil, err
		}
		b.nets = append(b.nets, n)
	}
	if err := os.WriteFile(d.mark(id), nil, 0o600); err != nil {
		return nil, err
	}
	if err := change(b); err != nil {
		return nil, err
	}
	routes(doc.Links, b.nets)
	lead(doc)
	if doc.Resolver != nil {
		know(doc.Resolver, b.nets)
	}
	if err := rewrite(d, doc); err != nil {
		b.giveBack()
		return nil, err
	}
	return doc, nil
}

// settle gives back what the document of a container does not name, after corten-net has made
// true what it says.
func settle(d Dirs, id spec.ContainerID) error {
	unlock, err := d.lockWired()
	if err != nil {
		return err
	}
	defer unlock()
	doc, ok, err := Document(d, id)
	if err != nil || !ok { // without one, whoever forgets the container does it
		return err
	}
	if err := sweep(d, id, doc.Links); err != nil {
		return err
	}
	return removed(os.Remove(d.mark(id)))
}

// removed is the error of a removal that may have been done before.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
