package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Document reads how a container is connected; false: it is not.
func Document(d Dirs, id spec.ContainerID) (*wiring.Document, bool, error) {
	b, err := disk.Read(d.doc(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	doc := new(wiring.Document)
	if err == nil {
		err = json.Unmarshal(b, doc)
	}
	switch {
	case err != nil:
	case doc.Version > wiring.Version:
		err = errs.Newf(errs.Unsupported, "", "", "it was connected by a newer Corten").WithHint("use that version, or a newer one")
	case doc.ID != id:
		err = errs.Newf(errs.Corrupt, "", "", "the file says that it is of another container")
	}
	if err != nil {
		return nil, false, errs.Wrap("read how container is connected", id.Short(), err)
	}
	return doc, true, nil
}

// Documents reads all of them, in the order of their ids. What cannot be read is told in the error,
// beside the others.
func Documents(d Dirs) ([]*wiring.Document, error) {
	ids, err := fileNames(d.wired())
	if err != nil {
		return nil, errs.Wrap("list connected containers in", d.Run, err)
	}
	slices.Sort(ids)
	var out []*wiring.Document
	var failed []error
	for _, id := range ids {
		doc, ok, err := Document(d, spec.ContainerID(id))
		if ok {
			out = append(out, doc)
		}
		failed = append(failed, err)
	}
	return out, errors.Join(failed...)
}

// Member is a container that is on a network.
type Member struct {
	ID        spec.ContainerID
	Name      string
	Interface string
	Addresses []netip.Prefix
	MAC       string
}

// Members is who is on a network, in the order of names.
func Members(d Dirs, network string) ([]Member, error) {
	docs, err := Documents(d)
	var out []Member
	for _, doc := range docs {
		for _, l := range doc.Links {
			if l.Network == network {
				out = append(out, Member{doc.ID, doc.Name, l.Interface, l.Addresses, l.MAC})
			}
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

func connected() error {
	return errs.Newf(errs.Busy, "", "", "it is still connected from an earlier start").WithHint("try again: the next command disconnects it")
}

// writeNew writes the document of a start. One that is there already is of a start that nobody has
// undone.
func writeNew(d Dirs, doc *wiring.Document) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	err = disk.Claim(d.doc(doc.ID), b, 0o600, disk.Volatile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(d.wired(), 0o700); err != nil {
			return err
		}
		err = disk.Claim(d.doc(doc.ID), b, 0o600, disk.Volatile)
	}
	if errs.Is(err, errs.Exists) {
		return connected()
	}
	return err
}

// rewrite replaces a document; the caller has the lock on them.
func rewrite(d Dirs, doc *wiring.Document) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return disk.WriteFile(d.doc(doc.ID), b, 0o600, disk.Volatile)
}
