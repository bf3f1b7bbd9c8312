package connect

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wire"
	"github.com/cortenhq/corten/internal/wiring"
)

// How long plugins of one link may take. Somebody waits for the end of a container for 10 seconds.
const (
	plugTime   = time.Minute // an address may have to be asked for by DHCP
	unplugTime = 7 * time.Second
)

// alone has the lock on the plugins of a container, which goes on until the last of them has ended:
// those that disconnect an earlier start would undo what connects this one.
func (w *work) alone(id spec.ContainerID, do func(held *os.File) error) error {
	path := w.file(filepath.Join("cni/lock", string(id)))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := disk.OpenLocked(path, os.O_RDWR, disk.Exclusive)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(path) // under the lock, as disk.OpenLocked allows
	return do(f)
}

// task is what plugins of a link are to be told.
func (w *work) task(v cni.Verb, d *wiring.Document, link int) cni.Task {
	t := cni.Task{Verb: v, ID: d.ID, Cache: w.file("cni"), Link: d.Links[link], Ports: cni.PortsOf(d, link), Timeout: plugTime}
	if v == cni.Del {
		t.Timeout = unplugTime / time.Duration(len(d.Links))
	}
	if d.Resolver != nil {
		t.DNS = d.Resolver.Upstream
	}
	if path := w.namespace(d.ID); isNamespace(path) {
		t.Namespace = path
	}
	return t
}

// plug has plugins connect the container, and writes down what they say.
func (w *work) plug(in *wire.Inside) error {
	return w.alone(w.id, func(held *os.File) error {
		if err := w.unplugOld(w.id, held); err != nil {
			return err
		}
		if err := w.keepNamespace(in); err != nil {
			return err
		}
		for i, l := range w.doc.Links {
			done, err := cni.Run(w.task(cni.Add, w.doc, i), held)
			if err != nil {
				return errs.Wrap("connect to network", l.Network, err)
			}
			done.Apply(w.doc, i)
		}
		return network.Learn(w.dirs, w.doc)
	})
}

// unplug has plugins disconnect the container, if it is still of the start that is meant ("": any). What they
// cannot undo is written down for later, and then is no error: the container is to be removed or started all the
// same.
func (w *work) unplug(start string) error {
	d, there, err := network.Document(w.dirs, w.id)
	if err != nil || !there || !d.Plugged() {
		return nil // who reads it next says what is wrong
	}
	return w.alone(w.id, func(held *os.File) error {
		d, there, err := network.Document(w.dirs, w.id)
		if err != nil || !there || start != "" && d.Start != start {
			return nil
		}
		if err = w.unplugLinks(d, held); err == nil {
			return cni.Forget(w.dirs.Run, d.ID)
		}
		left := cni.Leftover{Document: d, Reason: err.Error(), Hint: errs.HintOf(err)}
		_ = events.Append(w.dirs.Root, events.Event{Type: events.TypeNetwork, Action: "unplug-failed", ID: cni.IDOf(d.Links[0].Network),
			Attributes: map[string]string{"name": d.Links[0].Network, "type": string(wiring.CNI), "container": string(d.ID), "error": left.Reason}})
		return errs.Wrap("write down what is left of", d.Name, left.Keep(w.dirs.Run))
	})
}

// unplugLinks disconnects links in the reverse order, each of them whatever becomes of the others.
func (w *work) unplugLinks(d *wiring.Document, held *os.File) error {
	var failed error
	for i := len(d.Links) - 1; i >= 0; i-- {
		if _, err := cni.Run(w.task(cni.Del, d, i), held); err != nil {
			failed = errors.Join(errs.Wrap("disconnect from network", d.Links[i].Network, err), failed)
		}
	}
	if failed != nil {
		return failed
	}
	return w.letNamespace(d.ID)
}

// unplugOld disconnects what plugins could not at the end of an earlier start.
func (w *work) unplugOld(id spec.ContainerID, held *os.File) error {
	left, err := cni.LeftOf(w.dirs.Run, id)
	if left == nil || err != nil {
		return err
	}
	if err := w.unplugLinks(left.Document, held); err != nil {
		return err
	}
	return cni.Forget(w.dirs.Run, id)
}

// unplugLeft tries all of that again that is left of containers which are not connected now.
func (w *work) unplugLeft() error {
	var failed error
	for _, id := range cni.Leftovers(w.dirs.Run) {
		err := w.alone(id, func(held *os.File) error {
			if _, there, err := network.Document(w.dirs, id); there || err != nil {
				return err // its start sees to it
			}
			err := w.unplugOld(id, held)
			if left, lerr := cni.LeftOf(w.dirs.Run, id); err != nil && lerr == nil && left != nil {
				left.Reason, left.Hint = err.Error(), errs.HintOf(err)
				err = errors.Join(err, left.Keep(w.dirs.Run))
			}
			return err
		})
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return failed
	}
	return w.peer.ok()
}

// namespace is where a container's network namespace has a name as long as plugins have to do with it. They
// are told of it, and some undo only what they find in there.
func (w *work) namespace(id spec.ContainerID) string {
	return w.file(filepath.Join("cni/ns", string(id)))
}

func (w *work) keepNamespace(in *wire.Inside) error {
	path := w.namespace(w.id)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = w.letNamespace(w.id) // of a start that somebody killed
	}
	if err == nil {
		err = os.WriteFile(path, nil, 0o400)
	}
	if err == nil {
		err = unix.Mount("/proc/self/fd/"+strconv.Itoa(in.FD()), path, "", unix.MS_BIND, "")
	}
	return errs.Wrap("give a name to", "network namespace of container", err)
}

func (w *work) letNamespace(id spec.ContainerID) error {
	path := w.namespace(id)
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == unix.EINVAL || err == unix.ENOENT {
		err = nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errs.Wrap("remove", path, err)
}

// isNamespace reports whether a container's namespace has its name: then plugins connect it.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
