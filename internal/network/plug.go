package network

import (
	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// plug adds a link that plugins make. What addresses it has they say.
func (b *builder) plug(a spec.Attachment) error {
	l, err := cni.Here().Link(a, rateOf(b.c, a))
	if err != nil {
		return err
	}
	if l.Interface, err = b.interfaceName(a); err != nil {
		return err
	}
	n := Network{Name: a.Network, Driver: wiring.CNI}
	if l.Names, err = b.namesOn(n, a); err != nil {
		return err
	}
	b.doc.Links, b.nets = append(b.doc.Links, l), append(b.nets, n)
	return nil
}

// leadPlugged has plugins publish ports.
func (b *builder) leadPlugged(ports []spec.Port) (err error) {
	others, err := Documents(b.dirs)
	if err == nil {
		b.doc.Ports, err = cni.Forwards(b.doc.Links, ports, others)
	}
	return err
}

// forwards has rules of ours publish ports. Sockets that hold them say nothing of those that plugins publish.
func (b *builder) forwards(ports []spec.Port) ([]wiring.Forward, error) {
	out, err := forwards(b.doc.Links, ports)
	if err != nil || len(out) == 0 || !cni.Some(b.dirs.Run) {
		return out, err
	}
	others, err := Documents(b.dirs)
	if err == nil {
		err = cni.Free(out, others)
	}
	return out, err
}

// Learn writes down what plugins say of a container's links, and has its names lead there.
func Learn(d Dirs, doc *wiring.Document) error {
	unlock, err := lockDir(d.wired(), disk.Exclusive)
	if err != nil {
		return errs.Wrap("connect container", doc.Name, err)
	}
	defer unlock()
	err = rewrite(d, doc)
	b := &builder{claims: claims{dirs: d, id: doc.ID, name: doc.Name, locked: true}, doc: doc}
	for _, l := range doc.Links {
		if err == nil {
			err = b.publishNames(l)
		}
	}
	return errs.Wrap("connect container", doc.Name, err)
}
