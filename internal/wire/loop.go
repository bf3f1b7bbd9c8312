package wire

import (
	"bytes"
	"errors"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// A packet comes in by the loop from an address that is elsewhere. A host that filters by the way back
// (rp_filter 1, and firewalld for IPv6) would drop it: so packets with the loop's mark have their way back
// there, in a routing table that only they look into. Where they go to when they are in says the main table.
const (
	loopTables   = 0x10c7_0000 // and the mark
	loopPriority = 490         // of the rule about the main table; the other's is one more
	loopMTU      = 65535       // it takes whole what came in fragments
)

// Loop makes sure that the loop is there, and returns the index of the interface that packets are put into.
// anew says that it was not. The caller has the lock of RUN/net.
func (h *Host) Loop() (index int, anew bool, err error) {
	names := wiring.LoopOf(h.run)
	link, err := h.links.LinkByName(names.Out)
	switch {
	case err == nil && !h.isLoop(link):
		return 0, false, errs.Newf(errs.Exists, "make interface", names.Out, "there is another one of that name").
			WithHint("remove it: ip link delete " + names.Out)
	case err == nil && link.Attrs().Flags&net.FlagUp != 0:
		return link.Attrs().Index, false, nil
	case err == nil: // somebody was killed here
	case missing(err):
		hw := h.hardware(names.Out) // of both: each end takes the other's for its own
		a := netlink.NewLinkAttrs()
		a.Name, a.MTU, a.HardwareAddr = names.Out, loopMTU, hw
		link, err = &netlink.Veth{LinkAttrs: a, PeerName: names.In, PeerHardwareAddr: hw, PeerMTU: loopMTU}, nil
		if err = h.links.LinkAdd(link); err == nil {
			link, err = h.links.LinkByName(names.Out)
		}
	}
	if err == nil {
		err = h.finishLoop(names, link)
	}
	if err != nil {
		return 0, false, errs.Wrap("make interfaces", names.Out+" and "+names.In, err)
	}
	return link.Attrs().Index, true, nil
}

// finishLoop sets the loop up. That Out is up is last, and says that the rest has been done.
func (h *Host) finishLoop(names wiring.Loop, out netlink.Link) error {
	in, err := h.links.LinkByName(names.In)
	if err != nil {
		return err
	}
	six := HasIPv6()
	for _, l := range []netlink.Link{in, out} {
		if six {
			folder := "net/ipv6/conf/" + l.Attrs().Name
			err = errors.Join(set(folder+"/disable_ipv6", "0"), set(folder+"/addr_gen_mode", "1"), set(folder+"/accept_ra", "0"))
		}
		if err := errors.Join(err, h.links.LinkSetARPOff(l)); err != nil {
			return err
		}
	}
	folder := "net/ipv4/conf/" + names.In
	if err := errors.Join(set(folder+"/rp_filter", "0"), set(folder+"/src_valid_mark", "1"), set(folder+"/forwarding", "1"), h.links.LinkSetUp(in)); err != nil {
		return err
	}
	if err := h.loopRoutes(names, in.Attrs().Index, six); err != nil {
		return err
	}
	if err := h.links.LinkSetUp(out); err != nil || !six {
		return err
	}
	gateway := net.IPNet{IP: net.ParseIP(wiring.LoopGateway6), Mask: net.CIDRMask(128, 128)}
	return h.links.RouteReplace(&netlink.Route{LinkIndex: out.Attrs().Index, Dst: &gateway})
}

// loopRoutes has packets with the mark come from where they came in, as far as the host asks.
func (h *Host) loopRoutes(names wiring.Loop, in int, six bool) error {
	for _, family := range families(six) {
		for _, r := range loopRules(names, family) {
			if err := h.links.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
		all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if family == unix.AF_INET6 {
			all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if err := h.links.RouteReplace(&netlink.Route{LinkIndex: in, Dst: all, Table: loopTables | int(names.Mark)}); err != nil {
			return err
		}
	}
	return nil
}

func families(six bool) []int {
	if six {
		return []int{unix.AF_INET, unix.AF_INET6}
	}
	return []int{unix.AF_INET}
}

func loopRules(names wiring.Loop, family int) []*netlink.Rule {
	main, back := netlink.NewRule(), netlink.NewRule()
	main.Family, main.IifName, main.Table, main.Priority = family, names.In, unix.RT_TABLE_MAIN, loopPriority
	back.Family, back.Mark, back.Table, back.Priority = family, names.Mark, loopTables|int(names.Mark), loopPriority+1
	return []*netlink.Rule{main, back}
}

// forgetLoop takes away what does not go with the interfaces.
func (h *Host) forgetLoop() error {
	var err error
	for _, family := range families(HasIPv6()) {
		for _, r := range loopRules(wiring.LoopOf(h.run), family) {
			if derr := h.links.RuleDel(r); derr != nil && !errors.Is(derr, unix.ENOENT) {
				err = errors.Join(err, derr)
			}
		}
	}
	return errs.Wrap("remove", "rules of routing", err)
}

// HasLoop reports whether it is there.
func (h *Host) HasLoop() bool {
	link, err := h.links.LinkByName(wiring.LoopOf(h.run).Out)
	return err == nil && h.isLoop(link)
}

func (h *Host) isLoop(l netlink.Link) bool {
	names := wiring.LoopOf(h.run)
	a := l.Attrs()
	return (a.Name == names.Out || a.Name == names.In) && bytes.Equal(a.HardwareAddr, h.hardware(names.Out))
}
