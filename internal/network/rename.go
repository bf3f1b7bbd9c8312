package network

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Rename gives a container the name that its description has now, if it is connected: others find it by that at
// once, and no more by the old one. No interface is touched.
func Rename(d Dirs, c *spec.Container) error {
	return errs.Wrap("rename container", c.Name, rename(d, c))
}

func rename(d Dirs, c *spec.Container) error {
	unlock, err := d.lockWired()
	if err != nil {
		return err
	}
	defer unlock()
	doc, ok, err := Document(d, c.ID)
	if err != nil || !ok || doc.Name == c.Name {
		return err
	}
	if err := os.WriteFile(d.mark(c.ID), nil, 0o600); err != nil { // as for other changes
		return err
	}
	b := &builder{claims: claims{dirs: d, id: c.ID, name: c.Name, locked: true}, c: c, doc: doc}
	doc.Name = c.Name
	for i := range doc.Links {
		if err := b.rename(&doc.Links[i]); err != nil {
			b.giveBack()
			return err
		}
	}
	if err := rewrite(d, doc); err != nil {
		b.giveBack()
		return err
	}
	for _, l := range doc.Links {
		if err := b.relabel(l); err != nil {
			return err
		}
	}
	if err := sweep(d, c.ID, doc.Links); err != nil {
		return err
	}
	return removed(os.Remove(d.mark(c.ID)))
}

// rename has names lead to a link that did not until now.
func (b *builder) rename(l *wiring.Link) error {
	a := spec.Attachment{}
	if i := slices.IndexFunc(b.c.Networking.Attachments, func(a spec.Attachment) bool { return a.Network == l.Network }); i >= 0 {
		a = b.c.Networking.Attachments[i]
	}
	names, err := b.namesOn(Network{Name: l.Network}, a)
	if err != nil {
		return err
	}
	added := *l
	added.Names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(l.Names, n) })
	l.Names = names
	return b.publishNames(added)
}

// relabel writes the new name into the claims of a link: each is replaced, so that nobody finds the address free.
func (b *builder) relabel(l wiring.Link) error {
	tmp := filepath.Join(b.dirs.on(l.Network), "."+string(b.id))
	for _, a := range l.Addresses {
		path := filepath.Join(b.dirs.at(l.Network), a.Addr().String())
		if id, _, err := holder(path); err != nil || id != b.id {
			continue
		}
		if err := unix.Unlink(tmp); err != nil && !errors.Is(err, unix.ENOENT) { // of somebody who was killed
			return err
		}
		err := unix.Symlink(string(b.id)+" "+b.name, tmp)
		if err == nil {
			err = unix.Rename(tmp, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
