package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// What faces see of networks.
type (
	Network        = network.Network
	NetworkRequest = network.Request
	NetworkMember  = network.Member
	NetworkDriver  = wiring.Driver
	Wiring         = wiring.Document
	Link           = wiring.Link
	Forward        = wiring.Forward
)

// CNI is the driver of networks that plugins make: those are only seen.
const CNI = wiring.CNI

// DefaultNetwork is the one of containers that name none.
const DefaultNetwork = spec.DefaultNetwork

func (e *Engine) netDirs() network.Dirs { return draft.NetDirs(e.dirs()) }

// nameNetworks puts names in the place of ids of networks, which a user may write as well. Those that
// there are not are for others to refuse.
func (e *Engine) nameNetworks(c *spec.Container) {
	for i := range c.Networking.Attachments {
		name := &c.Networking.Attachments[i].Network
		if strings.Trim(*name, "0123456789abcdef") != "" { // the way of a start: files are read only for what may be an id
			continue
		}
		if n, err := e.Network(*name); err == nil {
			*name = n.Name
		}
	}
}

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(r NetworkRequest) (Network, error) {
	if err := notForUsers("create network", r.Name); err != nil {
		return Network{}, err
	}
	n, err := network.Create(e.netDirs(), r)
	if err == nil {
		e.tellNetwork(n, "create", "")
	}
	return n, err
}

// NetworkWarning is what was found at a start of a container to be in the way of its packets; empty: nothing
// that nobody has been told of.
func (e *Engine) NetworkWarning() string { return network.Warning(e.netDirs()) }

// notForUsers refuses what takes rights over the host's network.
func notForUsers(op, name string) error {
	if !nest.Inside() {
		return nil
	}
	return errs.Newf(errs.Unsupported, op, name, "only root of the host may make the interfaces and rules that it takes").
		WithHint("run it as root; containers of ordinary users have --network pasta, host, none or container:NAME")
}

// tellNetwork writes down that something happened to a network, or to a container there.
func (e *Engine) tellNetwork(n Network, action string, id spec.ContainerID) {
	attributes := map[string]string{"name": n.Name, "type": string(n.Driver)}
	if id != "" {
		attributes["container"] = string(id)
	}
	_ = events.Append(e.cfg.Root, events.Event{Type: events.TypeNetwork, Action: action, ID: n.ID, Attributes: attributes})
}

// Networks lists networks by name, and says which containers are to be on each, whether they run
// or not. With an error the list is of those that could be read.
func (e *Engine) Networks() (list []Network, used map[string][]string, err error) {
	swept := e.sweep()
	list, err = network.List(e.netDirs())
	if n, ok := e.defaultAhead(); ok {
		list = append(list, n)
		slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	}
	plugged, perr := cni.Here().List()
	for _, c := range plugged {
		list = append(list, ofPlugins(c))
	}
	used, uerr := e.networkUsers()
	return list, used, errors.Join(swept, err, perr, uerr)
}

// defaultAhead is the default network as it will be, if it has not been needed yet.
func (e *Engine) defaultAhead() (Network, bool) {
	if nest.Inside() {
		return Network{}, false
	}
	if _, err := network.Find(e.netDirs(), DefaultNetwork); !errs.Is(err, errs.NotFound) {
		return Network{}, false
	}
	n, err := network.LikelyDefault(e.netDirs())
	return n, err == nil
}

// Network finds a network by its name or id.
func (e *Engine) Network(ref string) (Network, error) {
	if !cni.Is(ref) {
		n, err := network.Find(e.netDirs(), ref)
		if !errs.Is(err, errs.NotFound) {
			return n, err
		}
		if ahead, ok := e.defaultAhead(); ok && (ref == DefaultNetwork || len(ref) >= 12 && strings.HasPrefix(ahead.ID, ref)) {
			return ahead, nil
		}
		return n, err
	}
	c, err := cni.Here().Find(ref)
	if err != nil {
		return Network{}, err
	}
	n := ofPlugins(c)
	for _, id := range cni.Leftovers(e.cfg.Run) {
		if left, _ := cni.LeftOf(e.cfg.Run, id); left != nil && slices.ContainsFunc(left.Document.Links, func(l Link) bool { return l.Network == n.Name }) {
			n.Options["left of "+left.Document.Name] = left.Reason
		}
	}
	return n, nil
}

// ofPlugins is a network of CNI, as others are seen.
func ofPlugins(c cni.Config) Network {
	n := Network{Version: network.Version, Name: c.Network(), ID: cni.IDOf(c.Network()), Driver: wiring.CNI,
		Options: map[string]string{"file": c.File, "plugins": strings.Join(c.Types(), ",")}}
	if st, err := os.Stat(c.File); err == nil {
		n.Created = st.ModTime()
	}
	return n
}

// leftByPlugins is what plugins could not undo when a container ended, which has kept nobody from anything.
func (e *Engine) leftByPlugins(id spec.ContainerID) error {
	left, err := cni.LeftOf(e.cfg.Run, id)
	return errors.Join(err, left.Err())
}

// notPlugins refuses to change what plugins make.
func notPlugins(op, name string) error {
	if !cni.Is(name) {
		return nil
	}
	return errs.Newf(errs.Unsupported, op, name, "it is a network of CNI: a file of the host's administrator says what it is, and its plugins are told all when a container starts").
		WithHint("use corten run --network " + name + "; its file is in " + cni.Here().Configs)
}

// NetworkMembers is the containers that are connected to a network now.
func (e *Engine) NetworkMembers(n Network) ([]NetworkMember, error) {
	if err := e.sweep(); err != nil {
		return nil, err
	}
	return network.Members(e.netDirs(), n.Name)
}

// networkUsers is the names of the containers that are to be on each network. It is whole or an
// error: what is removed depends on it.
func (e *Engine) networkUsers() (map[string][]string, error) {
	list, err := container.Views(e.dirs(), ContainerFilter{All: true})
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, c := range list {
		for _, a := range c.Spec.Networking.Attachments {
			used[a.Network] = append(used[a.Network], c.Spec.Name)
		}
	}
	return used, nil
}

// RemoveNetwork removes a network that no container is to be on.
func (e *Engine) RemoveNetwork(ref string) error {
	if err := notPlugins("remove network", ref); err != nil {
		return err
	}
	n, err := e.Network(ref)
	if err != nil {
		return err
	}
	used, err := e.networkUsers()
	if err != nil {
		return err
	}
	if by := used[n.Name]; len(by) > 0 {
		return errs.Newf(errs.Busy, "remove network", n.Name, "container "+by[0]+" uses it").
			WithHint("take the container off it (corten network disconnect " + n.Name + " " + by[0] + ") or remove that")
	}
	if err := network.Remove(e.netDirs(), n.Name); err != nil {
		return err
	}
	e.tellNetwork(n, "destroy", "")
	return nil
}

// PruneBridges takes away interfaces of the host that no container needs any more, and makes its
// rules anew if somebody has removed them.
func (e *Engine) PruneBridges(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(e.cfg.Run, "net/lock")); errors.Is(err, fs.ErrNotExist) { // corten-net was never here since the machine started
		return nil
	}
	return network.Prune(ctx, e.netDirs())
}

// Wiring is how a container is connected now; nil if it is not.
func (e *Engine) Wiring(id spec.ContainerID) (*Wiring, error) {
	doc, ok, err := network.Document(e.netDirs(), id)
	if !ok {
		return nil, err
	}
	return doc, err
}

// ConnectNetwork puts a container on one more network: at once if it runs, and at its next starts.
func (e *Engine) ConnectNetwork(ctx context.Context, a spec.Attachment, ref string) error {
	describe := func(c *spec.Container, n Network) error {
		if slices.ContainsFunc(c.Networking.Attachments, func(o spec.Attachment) bool { return o.Network == n.Name }) {
			return errs.Newf(errs.Exists, "", "", "it is on the network "+n.Name+" already").
				WithHint("to change how, take it off first: corten network disconnect " + n.Name + " " + c.Name)
		}
		a.Network = n.Name
		c.Networking.Attachments = append(c.Networking.Attachments, a)
		return cni.Mixed(c.Networking.Attachments)
	}
	live := func(c *spec.Container, n Network, pid int) error {
		if _, err := network.Extend(e.netDirs(), c, a); err != nil {
			return err
		}
		err := network.Change(ctx, e.netDirs(), c.ID, pid)
		if err == nil {
			return nil
		}
		if _, uerr := network.Shrink(e.netDirs(), c.ID, n.Name); uerr == nil { // as it was, as far as that goes
			_ = network.Change(ctx, e.netDirs(), c.ID, pid)
		}
		return err
	}
	return e.rewire(a.Network, ref, "connect", describe, live)
}

// DisconnectNetwork takes a container off a network: at once if it runs, and for its next starts.
// With force those are changed even if the one that runs cannot be.
func (e *Engine) DisconnectNetwork(ctx context.Context, name, ref string, force bool) error {
	describe := func(c *spec.Container, n Network) error {
		before := len(c.Networking.Attachments)
		c.Networking.Attachments = slices.DeleteFunc(c.Networking.Attachments, func(a spec.Attachment) bool { return a.Network == n.Name })
		if len(c.Networking.Attachments) == before {
			return errs.Newf(errs.NotFound, "", "", "it is not on the network "+n.Name).WithHint("corten inspect " + c.Name + " shows where it is")
		}
		return nil
	}
	live := func(c *spec.Container, n Network, pid int) error {
		_, err := network.Shrink(e.netDirs(), c.ID, n.Name)
		if err == nil {
			err = network.Change(ctx, e.netDirs(), c.ID, pid)
		}
		if force {
			return nil
		}
		return err
	}
	return e.rewire(name, ref, "disconnect", describe, live)
}

// rewire changes what a container is connected to: its description, and if it runs also that. If
// that cannot be changed the description stays.
func (e *Engine) rewire(name, ref, action string, describe func(*spec.Container, Network) error,
	live func(c *spec.Container, n Network, pid int) error) error {
	if err := notPlugins(action+" network", name); err != nil {
		return err
	}
	if err := notForUsers(action+" network", name); err != nil {
		return err
	}
	if err := e.sweep(); err != nil {
		return err
	}
	find := e.Network
	if name == DefaultNetwork { // it may not have been needed yet
		find = func(string) (Network, error) { return network.Default(e.netDirs()) }
	}
	n, err := find(name)
	if err != nil {
		return err
	}
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	err = container.Edit(e.dirs(), s.Spec.ID, func(c *spec.Container) error {
		if !c.Connected() {
			return errs.Newf(errs.Invalid, "", "", "it was made with a network namespace that networks cannot be put in").
				WithHint("make it anew with --network " + n.Name)
		}
		if err := describe(c, n); err != nil {
			return err
		}
		if doc, err := e.Wiring(c.ID); doc == nil || err != nil { // it does not run
			return err
		}
		if err := live(c, n, s.State.PID); err != nil {
			return err
		}
		return kept.Reconnect(e.dirs(), c.ID)
	})
	if err != nil {
		return errs.Wrap(action+" container", s.Spec.Name, err)
	}
	e.tellNetwork(n, action, s.Spec.ID)
	return nil
}

// limitTraffic has the rates of a running container be what its description says.
func (e *Engine) limitTraffic(ctx context.Context, c *spec.Container, pid int) error {
	doc, err := e.Wiring(c.ID)
	if doc == nil || err != nil {
		return err
	}
	if _, err := network.Rates(e.netDirs(), c); err != nil {
		return err
	}
	return network.Change(ctx, e.netDirs(), c.ID, pid)
}
