package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Forget gives back all that a container has claimed, whatever start it was for, once nothing of it
// is connected: its names, its addresses, its document last. It is for who has the container's
// lock, so that it does not start meanwhile, and may be called again.
func Forget(d Dirs, id spec.ContainerID) error { return forget(d, id, "") }

// ForgetStart is Forget for the one start that a document was made for. If the container has started
// anew since then, or somebody has forgotten it already, nothing is done: it is for who tended it.
func ForgetStart(d Dirs, doc *wiring.Document) error { return forget(d, doc.ID, doc.Start) }

func forget(d Dirs, id spec.ContainerID, start string) error {
	if id == "" || strings.ContainsAny(string(id), "/.") {
		return errs.Newf(errs.Invalid, "disconnect container", string(id), "not an id")
	}
	unlock, err := d.lockWired()
	if err != nil {
		return errs.Wrap("disconnect container", id.Short(), err)
	}
	defer unlock()
	doc, ok, derr := Document(d, id)
	if start != "" && (!ok || doc.Start != start) {
		return nil
	}
	if ok {
		for _, l := range doc.Links {
			dropNames(d, id, l)
			err = errors.Join(err, dropClaims(d, id, l))
		}
	}
	changing := there(d.mark(id))
	if !ok || changing {
		err = errors.Join(err, sweep(d, id, nil))
	}
	if err != nil { // what could not be given back is found again by the document, or the next search
		return errs.Wrap("disconnect container", id.Short(), err)
	}
	if changing {
		err = removed(os.Remove(d.mark(id)))
	}
	if ok || derr != nil {
		err = errors.Join(err, removed(os.Remove(d.doc(id))))
	}
	return errs.Wrap("disconnect container", id.Short(), err)
}

// dropNames takes a link's names away. What cannot be removed leads to nobody.
func dropNames(d Dirs, id spec.ContainerID, l wiring.Link) {
	for _, name := range l.Names {
		dropName(filepath.Join(d.names(l.Network), name), id)
	}
}

// dropName takes one name from a container; the last one who has it takes the folder along.
func dropName(dir string, id spec.ContainerID) {
	_ = unix.Unlink(filepath.Join(dir, string(id)))
	_ = unix.Rmdir(dir)
}

// dropClaims takes away the claims of a link that are the container's.
func dropClaims(d Dirs, id spec.ContainerID, l wiring.Link) error {
	var err error
	for _, a := range l.Addresses {
		err = errors.Join(err, dropClaim(filepath.Join(d.at(l.Network), a.Addr().String()), id))
	}
	return err
}

func dropClaim(path string, id spec.ContainerID) error {
	who, _, err := holder(path)
	if err != nil || who != id {
		return removed(err)
	}
	return removed(os.Remove(path))
}

// sweep takes away what a container has on any network, but for what the links to keep name.
func sweep(d Dirs, id spec.ContainerID, keep []wiring.Link) error {
	networks, err := fileNames(filepath.Join(d.Run, "net/on"))
	for _, n := range networks {
		_ = unix.Unlink(filepath.Join(d.on(n), "."+string(id))) // of a change of its name
		var stays wiring.Link
		if i := slices.IndexFunc(keep, func(l wiring.Link) bool { return l.Network == n }); i >= 0 {
			stays = keep[i]
		}
		names, nerr := fileNames(d.names(n))
		for _, name := range names {
			if !slices.Contains(stays.Names, name) {
				dropName(filepath.Join(d.names(n), name), id)
			}
		}
		found, ferr := claimsOf(d, id, n)
		for _, path := range found {
			if !slices.ContainsFunc(stays.Addresses, func(p netip.Prefix) bool { return p.Addr().String() == filepath.Base(path) }) {
				err = errors.Join(err, dropClaim(path, id))
			}
		}
		err = errors.Join(err, nerr, ferr)
	}
	return err
}

// claimsOf is a container's claims on a network.
func claimsOf(d Dirs, id spec.ContainerID, network string) ([]string, error) {
	names, err := fileNames(d.at(network))
	var out []string
	for _, n := range names {
		path := filepath.Join(d.at(network), n)
		if who, _, herr := holder(path); herr == nil && who == id {
			out = append(out, path)
		}
	}
	return out, err
}

// claimed reports whether a container has a document or any claim. Names there are only with a document.
func claimed(d Dirs, id spec.ContainerID) (bool, error) {
	if there(d.doc(id)) {
		return true, nil
	}
	networks, err := fileNames(filepath.Join(d.Run, "net/on"))
	for _, n := range networks {
		found, ferr := claimsOf(d, id, n)
		if len(found) > 0 {
			return true, nil
		}
		err = errors.Join(err, ferr)
	}
	return false, err
}
