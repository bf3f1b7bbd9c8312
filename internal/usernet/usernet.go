// Package usernet connects containers of ordinary users, who may make no interface on the host: a
// program beside the container, pasta or else slirp4netns, takes what the container sends to an
// interface of its own, and sends it as any other program of the user would.
//
// A Plug is made before the container, with the document in RUN/net/wired that says how it is
// connected. When its first process is there, which waits for that, Connect starts the program;
// it has all ports then, or the start fails. From then on nobody looks after it: like the container
// it survives its starter and its keeper. It is found by the file RUN/net/user/ID.pid, which its
// own command line names too, and Down ends it when the container has ended, as often as it is asked.
package usernet

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/ports"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// The drivers, which are the names of their programs.
const (
	Pasta wiring.Driver = "pasta"
	Slirp wiring.Driver = "slirp4netns"
)

// Plug is how one container is going to be connected.
type Plug struct {
	Doc *wiring.Document

	run   string
	path  string      // of the program
	held  *ports.Held // until the program has the ports
	names bool        // the program asks the host's servers for names
}

// New decides how a container is connected and takes the ports; names says that the host's servers are
// not to be reached from elsewhere. It is written down, and has to be undone by Down.
func New(run string, c *spec.Container, names bool) (*Plug, error) {
	p, err := plug(run, c, names)
	if err != nil {
		return nil, err
	}
	n := c.Networking
	if p.held, err = ports.Hold(n.Ports, n.Expose, n.PublishAll); err != nil {
		return nil, err
	}
	p.Doc.Ports = p.forwards(p.held.Ports)
	b, err := json.Marshal(p.Doc)
	if err == nil {
		err = os.MkdirAll(filepath.Join(run, "net/wired"), 0o700)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(run, "net/user"), 0o700)
	}
	if err == nil {
		err = disk.WriteFile(document(run, c.ID), b, 0o600, disk.Volatile)
	}
	if err != nil {
		p.Close()
		return nil, errs.Wrap("connect container", c.Name, err)
	}
	return p, nil
}

// Likely is what New would decide. Ports that have yet to be found are 0.
func Likely(run string, c *spec.Container, names bool) (*Plug, error) {
	p, err := plug(run, c, names)
	if err == nil {
		p.Doc.Ports = p.forwards(c.Networking.Ports)
	}
	return p, err
}

func plug(run string, c *spec.Container, names bool) (*Plug, error) {
	err := refuse(c.Networking)
	if c.Namespaces.User.Mode == spec.UserHost {
		err = errs.Newf(errs.Unsupported, "", "", "pasta may not enter it: with --userns host it is in the user namespace that pasta is in itself").
			WithHint("leave --userns host out, or choose --network host or none")
	}
	if err != nil {
		return nil, errs.Wrap("connect container", c.Name, err)
	}
	p := &Plug{run: run, names: names, Doc: &wiring.Document{Version: wiring.Version, Start: string(c.ID), ID: c.ID, Name: c.Name}}
	l := wiring.Link{Network: c.Networking.Attachments[0].Network, Interface: "eth0"}
	drivers := []wiring.Driver{Pasta, Slirp}
	switch {
	case l.Network == string(Slirp):
		drivers = drivers[1:]
	case l.Network == spec.DefaultNetwork && !routed(): // then pasta has no interface to take after
		drivers = []wiring.Driver{Slirp, Pasta}
	}
	for _, l.Driver = range drivers {
		var err error
		if p.path, err = exec.LookPath(string(l.Driver)); err != nil {
			continue
		}
		if l.Driver == Slirp && slices.ContainsFunc(c.Networking.Ports, func(x spec.Port) bool { return x.HostIP.Is6() }) {
			return nil, errs.Newf(errs.Unsupported, "connect container", c.Name, "slirp4netns publishes ports at addresses of IPv4 only").WithHint("install passt, or publish at another address")
		}
		p.Doc.Links = []wiring.Link{l}
		return p, nil
	}
	return nil, errs.Newf(errs.Unsupported, "connect container", c.Name, "neither pasta nor slirp4netns is installed, and nothing else connects containers of ordinary users").
		WithHint("install passt (Debian and Fedora call the package so), or leave the container alone with --network none")
}

// routed reports whether the host has a default route.
func routed() bool {
	v4, _ := os.ReadFile("/proc/thread-self/net/route") // interface, destination, gateway, flags, ..., mask
	for line := range strings.Lines(string(v4)) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	v6, _ := os.ReadFile("/proc/thread-self/net/ipv6_route") // destination, its length, ..., interface
	for line := range strings.Lines(string(v6)) {
		if f := strings.Fields(line); len(f) > 9 && f[1] == "00" && f[9] != "lo" && strings.Trim(f[0], "0") == "" {
			return true
		}
	}
	return false
}

// refuse refuses what takes rights over the host's network.
func refuse(n spec.Networking) error {
	const hint = "run it as root, or choose --network pasta, host, none or container:NAME"
	if len(n.Attachments) != 1 {
		return errs.Newf(errs.Unsupported, "", "", "containers of ordinary users have one interface").WithHint(hint)
	}
	a := n.Attachments[0]
	if a.Network != spec.DefaultNetwork && a.Network != string(Pasta) && a.Network != string(Slirp) {
		return errs.Newf(errs.Unsupported, "use network", a.Network, "only root of the host may make the interfaces and rules that it takes").WithHint(hint)
	}
	if a.IP4.IsValid() || a.IP6.IsValid() || a.MAC != "" || a.Interface != "" || len(a.Aliases) > 0 {
		return errs.Newf(errs.Unsupported, "use network", a.Network, "containers of ordinary users have the addresses of the host, and one interface that is called eth0").WithHint(hint)
	}
	if n.Rate != (spec.Rate{}) || a.Rate != (spec.Rate{}) {
		return errs.Newf(errs.Unsupported, "limit rate on", a.Network, "only root of the host may shape traffic").WithHint("leave the rate out")
	}
	if slices.ContainsFunc(n.Ports, func(p spec.Port) bool { return p.Protocol == spec.SCTP }) {
		return errs.Newf(errs.Unsupported, "publish", "sctp", "programs pass on TCP and UDP only").WithHint("run it as root")
	}
	return nil
}

// forwards says where ports lead: the container's address is the host's, or one that nobody sees.
// slirp4netns publishes at addresses of IPv4 only.
func (p *Plug) forwards(list []spec.Port) []wiring.Forward {
	only4 := p.Doc.Links[0].Driver == Slirp
	var out []wiring.Forward
	for _, port := range list {
		hosts := []netip.Addr{port.HostIP}
		if !port.HostIP.IsValid() {
			hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for _, h := range hosts {
			if only4 && h.Is6() {
				continue
			}
			to := netip.IPv4Unspecified()
			if h.Is6() {
				to = netip.IPv6Unspecified()
			}
			out = append(out, wiring.Forward{Service: port.Service, HostIP: h, HostPort: port.HostPort, To: to})
		}
	}
	return out
}

// Server is the address at which the container finds the host's servers of names; empty: it asks them
// itself.
func (p *Plug) Server() string {
	switch {
	case !p.names:
		return ""
	case p.Doc.Links[0].Driver == Slirp:
		return slirpNames
	}
	return pastaNames
}

// Connect connects the network namespace of a process, and returns what waits until that is done.
func (p *Plug) Connect(pid int) (wait func() error, err error) {
	p.Close() // now the program takes the ports
	start := p.pasta
	if p.Doc.Links[0].Driver == Slirp {
		start = p.slirp
	}
	return start(pid)
}

// Close lets go of the ports.
func (p *Plug) Close() {
	if p.held != nil {
		p.held.Close()
	}
}

func document(run string, id spec.ContainerID) string {
	return filepath.Join(run, "net/wired", string(id))
}

// file is a file of the program of a container.
func file(run string, id spec.ContainerID, kind string) string {
	return filepath.Join(run, "net/user", string(id)+kind)
}

// end ends the program of a container, and waits until its ports are free again.
func end(run string, id spec.ContainerID) error {
	pid := program(run, id)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if program(run, id) != pid { // the number was given to another
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err != unix.EINTR && (n > 0 || err != nil) {
			return err
		}
	}
	return nil
}

// patience is how long the end of a program that was killed may take.
const patience = 5 * time.Second

// Down ends the program of a container, and forgets how it was connected.
func Down(run string, id spec.ContainerID) error {
	if err := end(run, id); err != nil {
		return errs.Wrap("disconnect container", id.Short(), err)
	}
	for _, f := range []string{file(run, id, sockKind), file(run, id, pidKind), document(run, id)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.Wrap("disconnect container", id.Short(), err)
		}
	}
	return nil
}
