// Package network keeps the networks that containers are on: what they are, who is on them with
// which address and name, and which ports of the host lead to whom.
//
// A network is a file, networks/NAME.json below the root folder, which outlives the machine. That a
// container is on it lasts as long as the container runs, and is below the run folder: a symbolic
// link for its address, one for each of its names, and a document (package wiring) which says all of
// it. They are claimed for a start (Claim), become true on the host by corten-net (Attendant), and go
// when that has disconnected the container (Forget). This package itself touches no interface and
// no rule.
//
// An address is claimed by making a link under its name: the kernel lets one of all those who try
// succeed. To take one away has two steps, a look at whose it is and the removal, so whoever does that
// has the lock on the folder of documents. LIFECYCLE.md says what is left when somebody is killed.
package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Dirs are the two state folders.
type Dirs struct {
	Root string // networks/
	Run  string // net/; also active/, which says whose containers somebody looks after
}

// Version is the format of a network's file. A reader refuses a higher one.
const Version = 1

// Network is what networks/NAME.json says.
type Network struct {
	Version  int               `json:"version"`
	Name     string            `json:"name"`
	ID       string            `json:"id"` // 64 hexadecimal digits
	Created  time.Time         `json:"created"`
	Labels   map[string]string `json:"labels,omitempty"`
	Driver   wiring.Driver     `json:"driver"`
	Subnets  []Subnet          `json:"subnets,omitempty"` // at most one of each family
	Bridge   string            `json:"bridge,omitempty"`  // the interface on the host
	Internal bool              `json:"internal,omitempty"`
	Options  map[string]string `json:"options,omitempty"` // see Option
}

// Subnet is the addresses of one family.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"` // of the way out; on a bridge the host's own address
	Range   netip.Prefix `json:"range,omitzero"`   // the part that addresses are taken from; zero: all
}

// Request is what a user says about a network to be made.
type Request struct {
	Name     string
	Driver   wiring.Driver  // "": bridge
	Subnets  []netip.Prefix // none: one that is free
	Gateways []netip.Addr   // each of one of the subnets
	Ranges   []netip.Prefix // likewise
	IPv6     bool           // also IPv6, with a subnet of our choice unless there is one
	Internal bool           // no way out
	Labels   map[string]string
	Options  map[string]string

	id string // ""; a new one
}

func (d Dirs) networks() string               { return filepath.Join(d.Root, "networks") }
func (d Dirs) file(network string) string     { return filepath.Join(d.networks(), network+".json") }
func (d Dirs) on(network string) string       { return filepath.Join(d.Run, "net/on", network) }
func (d Dirs) at(network string) string       { return filepath.Join(d.on(network), "at") }
func (d Dirs) names(network string) string    { return filepath.Join(d.on(network), "names") }
func (d Dirs) wired() string                  { return filepath.Join(d.Run, "net/wired") }
func (d Dirs) doc(id spec.ContainerID) string { return filepath.Join(d.wired(), string(id)) }

// List reads every network, in the order of their names. What cannot be read is told in the error,
// beside the others.
func List(d Dirs) ([]Network, error) {
	names, err := fileNames(d.networks())
	if err != nil {
		return nil, errs.Wrap("list networks in", d.Root, err)
	}
	slices.Sort(names)
	var out []Network
	var failed []error
	for _, file := range names {
		name, ok := strings.CutSuffix(file, ".json")
		if !ok || !validName(name) {
			continue
		}
		n, err := load(d, name)
		switch {
		case err == nil:
			out = append(out, n)
		case !errors.Is(err, fs.ErrNotExist): // else it has just been removed
			failed = append(failed, err)
		}
	}
	return out, errors.Join(failed...)
}

// Find returns the network that ref means: a name, an id, or the beginning of just one id.
func Find(d Dirs, ref string) (Network, error) {
	if validName(ref) {
		n, err := load(d, ref)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	all, _ := List(d) // one that cannot be read has no id
	if ref != "" {
		all = slices.DeleteFunc(all, func(n Network) bool { return !strings.HasPrefix(n.ID, ref) })
	}
	switch {
	case ref == "" || len(all) == 0:
		return Network{}, noNetwork(ref)
	case len(all) > 1:
		return Network{}, errs.Newf(errs.Invalid, "find network", ref, "more than one id begins so").
			WithHint("write more digits of it: corten network ls --no-trunc shows them")
	}
	return all[0], nil
}

func noNetwork(ref string) error {
	if ref == "pasta" || ref == "slirp4netns" {
		return errs.Newf(errs.Unsupported, "find network", ref, "it connects the containers of ordinary users").
			WithHint("leave --network " + ref + " out: containers of root are on the network " + spec.DefaultNetwork + "; or run it as an ordinary user")
	}
	return errs.Newf(errs.NotFound, "find network", ref, "no such network").
		WithHint("corten network ls lists them, and corten network create makes one")
}

// load reads the network of that name. The cause is fs.ErrNotExist if there is none.
func load(d Dirs, name string) (Network, error) {
	b, err := disk.Read(d.file(name))
	if err != nil {
		return Network{}, errs.Wrap("read network", name, err)
	}
	n, err := parse(b)
	if err == nil && n.Name != name {
		err = errs.Newf(errs.Corrupt, "", "", "the file says that it is "+strconv.Quote(n.Name))
	}
	if errs.Is(err, errs.Corrupt) {
		err = errs.New(errs.Corrupt, "read network", name, err).WithHint("repair " + d.file(name) + ", or remove it and make the network anew")
	}
	return n, err
}

// parse reads a network's file. What it returns keeps all the rules of check.
func parse(b []byte) (Network, error) {
	var n Network
	if err := json.Unmarshal(b, &n); err != nil {
		return Network{}, errs.New(errs.Corrupt, "", "", err)
	}
	if n.Version > Version {
		return Network{}, errs.Newf(errs.Unsupported, "read network", n.Name, "it was made by a newer Corten").
			WithHint("use that version, or a newer one")
	}
	if err := n.check(); err != nil {
		return Network{}, errs.New(errs.Corrupt, "", "", err)
	}
	return n, nil
}

// Remove removes a network that no container is on.
func Remove(d Dirs, ref string) error {
	n, err := Find(d, ref)
	if err != nil {
		return err
	}
	if n.Name == spec.DefaultNetwork {
		return errs.Newf(errs.Invalid, "remove network", n.Name, "it is the one of containers that name none").
			WithHint("corten run --network none is how a container has no network")
	}
	unlock, err := d.lockNetworks(disk.Exclusive) // nobody claims an address meanwhile
	if err != nil {
		return errs.Wrap("remove network", n.Name, err)
	}
	defer unlock()
	holders, err := liveHolders(d, n.Name)
	if err != nil {
		return errs.Wrap("remove network", n.Name, err)
	}
	if len(holders) > 0 {
		return errs.Newf(errs.Busy, "remove network", n.Name, "containers are connected to it: "+strings.Join(holders, ", ")).
			WithHint("stop them, or corten network disconnect " + n.Name + " " + holders[0])
	}
	err = os.Remove(d.file(n.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return noNetwork(ref)
	}
	if err == nil {
		err = disk.SyncDir(d.networks())
	}
	return errs.Wrap("remove network", n.Name, errors.Join(err, os.RemoveAll(d.on(n.Name))))
}

// lockNetworks has the lock on the folder of networks: shared while one that was found is made use
// of, exclusive to make or remove one.
func (d Dirs) lockNetworks(how disk.How) (unlock func(), err error) {
	return lockDir(d.networks(), how)
}

// lockWired has the lock on the folder of documents: to change one, and to take claims away.
func (d Dirs) lockWired() (unlock func(), err error) { return lockDir(d.wired(), disk.Exclusive) }

// lockDir locks a directory, which it makes if need be. It is on the way of every start, and package
// os asks more of the kernel for the same.
func lockDir(dir string, how disk.How) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, errs.Wrap("open", dir, err)
	}
	for {
		err = unix.Flock(fd, int(how))
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EINTR {
			unix.Close(fd)
			return nil, errs.Wrap("lock", dir, err)
		}
	}
}

// fileNames is what is in a folder, without what is only in the making; nothing if there is none.
func fileNames(dir string) ([]string, error) {
	names, err := disk.Names(dir)
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, ".") }), err
}
