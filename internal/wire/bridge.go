package wire

import (
	"bytes"
	"errors"
	"hash/fnv"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Bridge makes sure that the bridge of a network is there and up. The caller has the lock of
// RUN/net. mtu 0 is the kernel's.
func (h *Host) Bridge(s *wiring.Switch, mtu int) error {
	link, err := h.links.LinkByName(s.Name)
	if err == nil {
		if link.Type() != "bridge" {
			return errs.Newf(errs.Exists, "make bridge", s.Name, "there is another interface of that name").
				WithHint("remove it: ip link delete " + s.Name)
		}
		// One that is not up was being made when somebody was killed, or was set down since.
		if link.Attrs().Flags&net.FlagUp != 0 {
			return nil
		}
	} else if !missing(err) {
		return errs.Wrap("look for bridge", s.Name, err)
	} else if link, err = h.newBridge(s, mtu); err != nil {
		return errs.Wrap("make bridge", s.Name, err)
	}
	return h.finishBridge(s, link)
}

func (h *Host) newBridge(s *wiring.Switch, mtu int) (netlink.Link, error) {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr = s.Name, mtu, h.hardware(s.Name)
	b := &netlink.Bridge{LinkAttrs: a}
	if s.VLANs {
		b.VlanFiltering = &s.VLANs
	}
	err := h.links.LinkAdd(b)
	if s.VLANs && errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errs.New(errs.Unsupported, "filter VLANs of bridge", s.Name, err).WithHint("the kernel needs CONFIG_BRIDGE_VLAN_FILTERING")
	}
	return b, needs(err, "CONFIG_BRIDGE; modprobe bridge")
}

// needs says what to do where the kernel does not have interfaces of a kind.
func needs(err error, what string) error {
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return errs.New(errs.Unsupported, "", "", err).
		WithHint("the kernel needs it (" + what + "): see corten doctor; --network none and --network host work without")
}

// hardware is the hardware address of a bridge or shaper. It is made from the run folder and the
// name, so from the instant in which it is made an interface can be known as ours. A bridge left to
// itself takes the least of its ports' addresses, and changes it when that one goes: what
// neighbours know of it would be wrong then.
func (h *Host) hardware(name string) net.HardwareAddr {
	f := fnv.New64a()
	_, _ = f.Write([]byte(h.run + "\x00" + name))
	n := f.Sum64()
	return net.HardwareAddr{2, byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// finishBridge brings a bridge up, with its settings and addresses. Up is last: it says that
// the rest has been done.
func (h *Host) finishBridge(s *wiring.Switch, link netlink.Link) error {
	wrap := func(err error) error { return errs.Wrap("set up bridge", s.Name, err) }
	// Connections from the host's 127.0.0.1 are led to containers, and the answers come here.
	if err := set("net/ipv4/conf/"+s.Name+"/route_localnet", "1"); err != nil {
		return wrap(err)
	}
	six := HasIPv6()
	if six {
		// No container is a router for the host. Without duplicate address detection the bridge can
		// ask for its neighbours at once, and not after a second.
		if err := errors.Join(set("net/ipv6/conf/"+s.Name+"/accept_ra", "0"), set("net/ipv6/conf/"+s.Name+"/accept_dad", "0")); err != nil {
			return wrap(err)
		}
	}
	for _, a := range s.Addresses {
		if a.Addr().Is6() && !six {
			continue
		}
		err := h.links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return errs.Wrap("give bridge "+s.Name+" address", a.String(), err)
		}
	}
	return wrap(h.links.LinkSetUp(link))
}

// alias is what an interface of a VLAN is known by that we made: its hardware address is its parent's.
func (h *Host) alias() string { return "corten " + h.run }

// Unused deletes the bridges and other interfaces on the host that were made for containers, and
// that no document names; old are documents that are no more. It takes some 50 ms for each. The
// caller has the lock of RUN/net. bridges are the names of those that it deleted.
func (h *Host) Unused(documents, old []*wiring.Document) (bridges []string, err error) {
	links, err := whole(h.links.LinkList)
	if err != nil {
		return nil, errs.Wrap("list", "interfaces", err)
	}
	used, named := names(documents), owned(old)
	loop := wiring.LoopOf(h.run)
	used[loop.Out], used[loop.In] = wiring.Respects(documents), true // an end goes with the other
	for _, l := range links {
		a := l.Attrs()
		if used[a.Name] || !h.made(l, named) {
			continue
		}
		if derr := h.links.LinkDel(l); derr != nil && !missing(derr) {
			err = errors.Join(err, errs.Wrap("delete interface", a.Name, derr))
		} else if l.Type() == "bridge" {
			bridges = append(bridges, a.Name)
		} else if a.Name == loop.Out {
			err = errors.Join(err, h.forgetLoop())
		}
	}
	return bridges, err
}

// made reports whether an interface on the host is ours. A pair is if its name begins so, or a document
// names it; it is there after its container only if somebody keeps the namespace.
func (h *Host) made(l netlink.Link, named map[string]bool) bool {
	a := l.Attrs()
	switch l.Type() {
	case "bridge", "ifb":
		return bytes.Equal(a.HardwareAddr, h.hardware(a.Name))
	case "veth":
		return named[a.Name] || h.isLoop(l) || len(a.Name) == 13 && strings.HasPrefix(a.Name, wiring.PairPrefix(h.run))
	case "vlan":
		return a.Alias == h.alias()
	}
	return false
}

// owned are the names of what is made on the host for documents.
func owned(documents []*wiring.Document) map[string]bool {
	out := map[string]bool{}
	for _, d := range documents {
		for _, l := range d.Links {
			if l.Switch != nil {
				out[l.Switch.Name], out[l.HostSide], out[shaperName(l.HostSide)] = true, true, true
			}
		}
	}
	return out
}

// names are those, and of the parents of links: nobody removes one that is used.
func names(documents []*wiring.Document) map[string]bool {
	used := owned(documents)
	for _, d := range documents {
		for _, l := range d.Links {
			if l.Parent != nil {
				used[parentName(l.Parent)] = true
			}
		}
	}
	return used
}
