package wire

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Connect puts an interface into a container, with addresses, routes and rates. When it
// returns, packets pass. published says that ports of the host lead to the container.
func (h *Host) Connect(in *Inside, l wiring.Link, published bool) error {
	wrap := func(err error) error { return errs.Wrap("make interface", l.Interface, err) }
	hw, err := net.ParseMAC(l.MAC)
	if err != nil && (l.MAC != "" || l.Driver == wiring.Bridge) {
		return errs.New(errs.Invalid, "make interface", l.Interface, err)
	}
	switch l.Driver {
	case wiring.Bridge:
		err = h.pair(in, l, hw)
	case wiring.Macvlan, wiring.Ipvlan:
		err = h.onParent(in, l, hw)
	default:
		return errs.Newf(errs.Unsupported, "make interface", l.Interface, "of driver "+string(l.Driver))
	}
	if err != nil {
		return wrap(err)
	}
	link, err := in.links.LinkByName(l.Interface)
	if err == nil {
		err = in.up(link)
	}
	if errors.Is(err, unix.EADDRINUSE) && l.Parent != nil {
		return errs.New(errs.Busy, "make interface with hardware address", l.MAC, err).WithHint("another interface on " + parentName(l.Parent) + " has it")
	}
	if err == nil {
		link, err = ready(in.links, l.Interface)
	}
	if err == nil && l.Driver == wiring.Bridge {
		err = h.port(l, hw, published)
	}
	if err != nil {
		return wrap(err)
	}
	if err := in.address(link, l); err != nil {
		return err
	}
	if l.Rate.In > 0 || l.Rate.Out > 0 {
		return h.Limit(in, l)
	}
	return nil
}

// pair makes a pair of interfaces by one message: one end a port of the bridge, and up, the other
// in the container. That no end is moved, and none is renamed, saves grace periods of the kernel.
func (h *Host) pair(in *Inside, l wiring.Link, hw net.HardwareAddr) error {
	bridge, err := h.links.LinkByName(l.Switch.Name)
	if err != nil {
		return err
	}
	up := nl.NewIfInfomsg(unix.AF_UNSPEC)
	up.Flags, up.Change = unix.IFF_UP, unix.IFF_UP
	req := h.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(up)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.HostSide)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Attrs().Index))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC) // an end cannot be up before it knows the other
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Interface))
	peer.AddRtAttr(unix.IFLA_ADDRESS, hw)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(in.FD())))
	if l.MTU > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))))
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU)))
	}
	req.AddData(info)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return needs(err, "CONFIG_VETH; modprobe veth")
}

// port makes the host's end of a pair a port that learns nothing: who is behind it is said here.
// The rules say the same; if somebody flushes them this still holds.
func (h *Host) port(l wiring.Link, hw net.HardwareAddr, published bool) error {
	link, err := ready(h.links, l.HostSide)
	if err == nil {
		_, err = ready(h.links, l.Switch.Name)
	}
	if err != nil {
		return err
	}
	fixed := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
		Flags: netlink.NTF_MASTER, HardwareAddr: hw, Vlan: l.VLAN}
	if l.VLAN > 0 {
		if err := h.links.BridgeVlanDel(link, 1, true, true, false, true); err != nil {
			return err
		}
		if err := h.links.BridgeVlanAdd(link, uint16(l.VLAN), true, true, false, true); err != nil {
			return err
		}
	}
	if err := h.links.NeighSet(fixed); err != nil {
		return err
	}
	return h.setPort(link, func(flags *nl.RtAttr) {
		flags.AddRtAttr(nl.IFLA_BRPORT_LEARNING, []byte{0})
		flags.AddRtAttr(unix.IFLA_BRPORT_LOCKED, []byte{1}) // kernels before 5.18 do not look at it
		if published {
			// Where br_netfilter is loaded, what a container sends to a port of the host that leads to
			// itself goes back by the port it came from (hairpin mode).
			flags.AddRtAttr(nl.IFLA_BRPORT_MODE, []byte{1})
		}
		if l.Switch.Isolate {
			flags.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, []byte{1})
		}
	})
}

// setPort sets flags of an interface as the port of a bridge.
func (h *Host) setPort(link netlink.Link, set func(flags *nl.RtAttr)) error {
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(link.Attrs().Index)
	req := h.request(unix.RTM_SETLINK, 0)
	req.AddData(msg)
	flags := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	set(flags)
	req.AddData(flags)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// up brings an interface up. One on a parent may have the hardware address of another whose namespace
// the kernel is still taking apart: of the same container, if it starts again.
func (in *Inside) up(link netlink.Link) error {
	err := in.links.LinkSetUp(link)
	for range 200 {
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		time.Sleep(5 * time.Millisecond)
		err = in.links.LinkSetUp(link)
	}
	return err
}

// ready waits until the kernel has seen that an interface can be used: an end of a pair because the
// other is up, a bridge because a port is. Until then what comes is dropped, and the first
// question for a neighbour would be asked again after a second. A kernel sees it at once when it is asked for
// the interface (Linux 6.8), or some time within a millisecond. One that has no carrier is not waited for.
func ready(links *netlink.Handle, name string) (link netlink.Link, err error) {
	for range 100 {
		link, err = links.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			break
		}
		time.Sleep(50 * time.Microsecond)
	}
	return link, err
}

func (h *Host) request(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.Sockets = h.raw
	return req
}

// onParent makes an interface that shares one of the host's.
func (h *Host) onParent(in *Inside, l wiring.Link, hw net.HardwareAddr) error {
	parent, err := h.links.LinkByName(parentName(l.Parent))
	if err != nil {
		return errs.Wrap("look for parent interface", parentName(l.Parent), err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr = l.Interface, l.MTU, hw
	a.ParentIndex, a.Namespace = parent.Attrs().Index, netlink.NsFd(in.FD())
	link := netlink.Link(&netlink.Macvlan{LinkAttrs: a, Mode: macvlanMode(l.Parent.Mode)})
	if l.Driver == wiring.Ipvlan {
		a.HardwareAddr = nil // it is the parent's
		link = &netlink.IPVlan{LinkAttrs: a, Mode: ipvlanMode(l.Parent.Mode)}
	}
	err = h.links.LinkAdd(link)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errs.New(errs.Unsupported, "make interface of kind", string(l.Driver), err).WithHint("the kernel has no " + string(l.Driver))
	case errors.Is(err, unix.EBUSY):
		return errs.New(errs.Busy, "put "+string(l.Driver)+" on", parentName(l.Parent), err).
			WithHint("an interface carries macvlan or ipvlan, not both, and is no port of a bridge then")
	case err != nil:
		return err
	}
	return nil
}

func macvlanMode(mode string) netlink.MacvlanMode {
	switch mode {
	case "private":
		return netlink.MACVLAN_MODE_PRIVATE
	case "vepa":
		return netlink.MACVLAN_MODE_VEPA
	case "passthru":
		return netlink.MACVLAN_MODE_PASSTHRU
	}
	return netlink.MACVLAN_MODE_BRIDGE
}

func ipvlanMode(mode string) netlink.IPVlanMode {
	switch mode {
	case "l3":
		return netlink.IPVLAN_MODE_L3
	case "l3s":
		return netlink.IPVLAN_MODE_L3S
	}
	return netlink.IPVLAN_MODE_L2
}

// parentName is the interface of the host that links are put on.
func parentName(p *wiring.Parent) string {
	if p.VLAN == 0 {
		return p.Name
	}
	return p.Name + "." + strconv.Itoa(p.VLAN)
}

// Parent makes sure that the interface is there which links are put on: if that is one of a VLAN,
// by making it. The caller has the lock of RUN/net.
func (h *Host) Parent(p *wiring.Parent) error {
	name := parentName(p)
	if _, err := h.links.LinkByName(name); err == nil || p.VLAN == 0 {
		if missing(err) {
			return errs.Newf(errs.NotFound, "look for parent interface", name, "the host has none of that name").WithHint("see: ip link")
		}
		return errs.Wrap("look for parent interface", name, err)
	}
	below, err := h.links.LinkByName(p.Name)
	if err != nil {
		return errs.Wrap("look for parent interface", p.Name, err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, below.Attrs().Index
	link := &netlink.Vlan{LinkAttrs: a, VlanId: p.VLAN}
	err = h.links.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.New(errs.Unsupported, "make interface of VLAN", name, err).WithHint("the kernel needs CONFIG_VLAN_8021Q")
	}
	if err == nil {
		err = h.links.LinkSetAlias(link, h.alias())
	}
	if err == nil {
		err = h.links.LinkSetUp(link)
	}
	return errs.Wrap("make interface of VLAN", name, err)
}

// address gives an interface its addresses and routes.
func (in *Inside) address(link netlink.Link, l wiring.Link) error {
	six := HasIPv6() // a network may be from when the kernel had it
	for _, a := range l.Addresses {
		if a.Addr().Is6() && !six {
			continue
		}
		err := in.links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return errs.Wrap("give "+l.Interface+" address", a.String(), err)
		}
	}
	if err := in.lead(link, l); err != nil {
		return err
	}
	for _, a := range l.Addresses {
		if a.Addr().Is6() && six {
			in.settled(a.Addr())
		}
	}
	return nil
}

// Lead gives a link its default routes, in the place of those that led by another one until now.
func (in *Inside) Lead(l wiring.Link) error {
	if len(l.Gateways) == 0 {
		return nil
	}
	link, err := in.links.LinkByName(l.Interface)
	if err != nil {
		return errs.Wrap("look for interface", l.Interface, err)
	}
	return in.lead(link, l)
}

func (in *Inside) lead(link netlink.Link, l wiring.Link) error {
	for _, g := range l.Gateways {
		if g.Is6() && !HasIPv6() {
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everything(g))}
		switch {
		case g.IsUnspecified(): // whoever has the parent routes
			route.Scope = netlink.SCOPE_LINK
		case !within(g, l.Addresses):
			route.Flags = int(netlink.FLAG_ONLINK)
			fallthrough
		default:
			route.Gw = g.AsSlice()
		}
		if err := in.links.RouteReplace(route); err != nil {
			return errs.Wrap("lead "+l.Interface+" to the world by", g.String(), err)
		}
	}
	return nil
}

// settled waits until the kernel takes packets to an address of IPv6: its route is made, and its group
// joined, by a work queue after the address is there. The first answer of a neighbour would be lost
// before, and asked for again after a second.
func (in *Inside) settled(a netip.Addr) {
	for range 100 {
		routes, err := in.links.RouteGet(a.AsSlice())
		if err != nil || len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func everything(g netip.Addr) netip.Prefix {
	p, _ := g.Prefix(0)
	return p
}

func within(g netip.Addr, addresses []netip.Prefix) bool {
	for _, a := range addresses {
		if a.Contains(g) {
			return true
		}
	}
	return g.IsLinkLocalUnicast()
}

// Has reports whether the container has an interface of that name.
func (in *Inside) Has(name string) (bool, error) {
	_, err := in.links.LinkByName(name)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// Surplus removes what connects the container and is not among the links: interfaces whose other end,
// or parent, is in another namespace. What the container has made itself has it here.
func (in *Inside) Surplus(links []wiring.Link) error {
	all, err := whole(in.links.LinkList)
	if err != nil {
		return errs.Wrap("list", "interfaces of container", err)
	}
	wanted := map[string]bool{}
	for _, l := range links {
		wanted[l.Interface] = true
	}
	for _, l := range all {
		a := l.Attrs()
		ours := a.NetNsID >= 0 && a.ParentIndex != 0 && (l.Type() == "veth" || l.Type() == "macvlan" || l.Type() == "ipvlan")
		if !ours || wanted[a.Name] {
			continue
		}
		if err := in.links.LinkDel(l); err != nil && !missing(err) {
			return errs.Wrap("remove interface", a.Name, err)
		}
	}
	return nil
}
