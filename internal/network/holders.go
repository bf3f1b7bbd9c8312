package network

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// claims are the links that one start makes, to be given back if it comes to nothing.
type claims struct {
	dirs   Dirs
	id     spec.ContainerID
	name   string
	dry    bool // nothing is touched: what would be claimed
	locked bool // the caller has the lock on documents
	made   []string
}

// address claims one of a network: the one that is wanted, or the next that is free.
func (c *claims) address(network string, s Subnet, want netip.Addr) (netip.Addr, error) {
	if want.IsValid() {
		if err := s.allowed(want); err != nil {
			return netip.Addr{}, err
		}
		return want, c.static(network, want)
	}
	if c.dry {
		return c.guess(network, s)
	}
	a, err := c.dynamic(network, s)
	if err == nil {
		setNext(c.dirs, network, a)
	}
	return a, err
}

// crowded is how often an address that was tried may be taken before all that are taken are looked
// at. Where most are free the first try nearly always succeeds, and costs one system call.
const crowded = 4

func (c *claims) dynamic(network string, s Subnet) (netip.Addr, error) {
	from := next(c.dirs, network, s)
	taken := map[netip.Addr]bool{}
	reclaimed := false
	for {
		a, ok := s.free(from, func(a netip.Addr) bool { return taken[a] })
		if !ok {
			if reclaimed {
				return netip.Addr{}, exhausted(network, s)
			}
			if err := c.underLock(func() error { return reclaim(c.dirs, network) }); err != nil {
				return netip.Addr{}, err
			}
			reclaimed = true
			var err error
			if taken, err = takenOn(c.dirs, network); err != nil {
				return netip.Addr{}, err
			}
			continue
		}
		err := c.take(network, a)
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return netip.Addr{}, err
		}
		if taken[a] = true; len(taken) == crowded && !reclaimed {
			if taken, err = takenOn(c.dirs, network); err != nil {
				return netip.Addr{}, err
			}
			taken[a] = true
		}
	}
}

func exhausted(network string, s Subnet) error {
	p := s.Subnet
	if s.Range.IsValid() {
		p = s.Range
	}
	return errs.Newf(errs.NoSpace, "", "", "every address of "+p.String()+" is taken").
		WithHint("stop containers that are on " + network + ", or make a network with a larger --subnet")
}

// guess is what dynamic would claim.
func (c *claims) guess(network string, s Subnet) (netip.Addr, error) {
	taken, err := takenOn(c.dirs, network)
	if err != nil {
		return netip.Addr{}, err
	}
	a, ok := s.free(next(c.dirs, network, s), func(a netip.Addr) bool { return taken[a] })
	if !ok {
		return netip.Addr{}, exhausted(network, s)
	}
	return a, nil
}

// static claims an address that a user wants. One whose holder has died is taken over; our own may
// be there from a start that was killed.
func (c *claims) static(network string, a netip.Addr) error {
	if !c.dry {
		if err := c.take(network, a); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	path := filepath.Join(c.dirs.at(network), a.String())
	return c.underLock(func() error {
		id, name, err := holder(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && c.dry:
			return nil
		case errors.Is(err, fs.ErrNotExist): // let go just now
			return c.take(network, a)
		case err != nil:
			return err
		case id == c.id:
			c.made = append(c.made, path)
			return nil
		case !stale(c.dirs, id):
			return errs.Newf(errs.Busy, "", "", a.String()+" is the container "+name+"'s").WithHint("choose another, or stop that container")
		case c.dry:
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return c.take(network, a)
	})
}

// take makes the link that claims an address. It is atomic, and fails if there is one.
func (c *claims) take(network string, a netip.Addr) error {
	return c.link(string(c.id)+" "+c.name, filepath.Join(c.dirs.at(network), a.String()))
}

// link makes a link that is ours, and its folder if need be. Whoever takes a last name away may remove the folder
// in between.
func (c *claims) link(target, path string) error {
	for {
		err := unix.Symlink(target, path)
		if err == unix.ENOENT {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return errs.Wrap("claim", path, err)
		}
		c.made = append(c.made, path)
		return nil
	}
}

// giveBack removes what was claimed, the latest first. It is ours and we live, so nobody else does.
func (c *claims) giveBack() {
	for i := len(c.made) - 1; i >= 0; i-- {
		_ = unix.Unlink(c.made[i])
		if dir := filepath.Dir(c.made[i]); dir != c.dirs.wired() { // which is a lock
			_ = unix.Rmdir(dir) // if it is of a name that nobody has any more; else it is not empty
		}
	}
	c.made = nil
}

func (c *claims) underLock(do func() error) error {
	if c.locked || c.dry {
		return do()
	}
	unlock, err := c.dirs.lockWired()
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// next is where the search for a free address goes on; invalid: anywhere.
func next(d Dirs, network string, s Subnet) netip.Addr {
	text, err := os.Readlink(nextPath(d, network, s.Subnet.Addr()))
	if err != nil {
		return netip.Addr{} // nobody has had one yet
	}
	a, _ := netip.ParseAddr(text)
	return a
}

func nextPath(d Dirs, network string, of netip.Addr) string {
	if of.Is4() {
		return filepath.Join(d.on(network), "next4")
	}
	return filepath.Join(d.on(network), "next6")
}

// setNext says that the search goes on after an address that is ours. The link is made under a name that
// nobody else takes meanwhile, since it has that address in it. If it cannot be made the next search takes longer.
func setNext(d Dirs, network string, a netip.Addr) {
	tmp := filepath.Join(d.on(network), ".next-"+a.String())
	err := unix.Symlink(a.Next().String(), tmp)
	if err != nil && err != unix.EEXIST { // there is one, of somebody who was killed right here: it says the same
		return
	}
	_ = unix.Rename(tmp, nextPath(d, network, a))
}

// takenOn is every address of a network that is claimed.
func takenOn(d Dirs, network string) (map[netip.Addr]bool, error) {
	names, err := fileNames(d.at(network))
	taken := make(map[netip.Addr]bool, len(names)+crowded)
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			taken[a] = true
		}
	}
	return taken, err
}

// holder is whose a claim is. The cause is fs.ErrNotExist if it is nobody's.
func holder(path string) (id spec.ContainerID, name string, err error) {
	target, err := os.Readlink(path)
	text, name, _ := strings.Cut(target, " ")
	return spec.ContainerID(text), name, err
}

// stale reports whether nobody looks after a container, and nothing says that it is connected: a
// claim of it is left of a start that was killed. Who has the lock on documents can rely on it, as
// long as it takes away no more than was there before it looked.
func stale(d Dirs, id spec.ContainerID) bool {
	return !there(d.doc(id)) && !there(filepath.Join(d.Run, "active", string(id)))
}

func there(path string) bool { return unix.Access(path, unix.F_OK) != unix.ENOENT }

// reclaim takes away claims of a network that are stale; the caller has the lock on documents.
func reclaim(d Dirs, network string) error {
	names, err := fileNames(d.at(network))
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(d.at(network), n)
		id, _, err := holder(path)
		if err == nil && stale(d, id) {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// liveHolders is the names of the containers on a network.
func liveHolders(d Dirs, network string) ([]string, error) {
	unlock, err := d.lockWired()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := reclaim(d, network); err != nil {
		return nil, err
	}
	files, err := fileNames(d.at(network))
	var names []string
	seen := map[spec.ContainerID]bool{}
	for _, f := range files {
		id, name, err := holder(filepath.Join(d.at(network), f))
		if err == nil && !seen[id] {
			seen[id] = true
			names = append(names, name)
		}
	}
	return names, err
}
