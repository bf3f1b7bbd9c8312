package wire

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Forget has the host forget the connections of addresses that were a container's. They would
// go on to whoever has the address next, and a flow of UDP never ends while somebody sends. It
// takes some 5 ms however few connections there are.
func Forget(addresses []netip.Addr) error {
	return forget(func(f *netlink.ConntrackFlow) bool {
		for _, a := range addresses {
			if same(a, f.Forward.SrcIP) || same(a, f.Forward.DstIP) || same(a, f.Reverse.SrcIP) || same(a, f.Reverse.DstIP) {
				return true
			}
		}
		return false
	})
}

// ForgetPorts has it forget the flows of UDP to ports of the host that are published now, and
// went elsewhere until now.
func ForgetPorts(ports []wiring.Forward) error {
	return forget(func(f *netlink.ConntrackFlow) bool {
		if f.Forward.Protocol != unix.IPPROTO_UDP {
			return false
		}
		for _, p := range ports {
			if p.Protocol == spec.UDP && f.Forward.DstPort == p.HostPort && !same(p.To, f.Reverse.SrcIP) &&
				(p.HostIP.IsUnspecified() || same(p.HostIP, f.Forward.DstIP)) {
				return true
			}
		}
		return false
	})
}

func same(a netip.Addr, b []byte) bool {
	x, ok := netip.AddrFromSlice(b)
	return ok && x.Unmap() == a.Unmap()
}

type flows func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow is what the library calls.
func (f flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool { return f(flow) }

func forget(which flows) error {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return errs.Wrap("open", "conntrack", err)
	}
	defer h.Close()
	_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, which)
	if HasIPv6() {
		_, err6 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, which)
		err = errors.Join(err, err6)
	}
	return errs.Wrap("forget", "connections", err)
}
