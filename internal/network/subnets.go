package network

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/hostnet"
	"github.com/cortenhq/corten/internal/wiring"
)

// pool is where subnets are taken from: those of a length in a larger one, the lowest first.
type pool struct {
	of   string
	bits int
}

// Those of the default network are large, since every container is there unless its user says
// otherwise; 10.133 to 10.207 is where few others are.
var (
	defaultPools = []pool{{"10.133.0.0/16", 16}, {"10.136.0.0/13", 16}, {"10.144.0.0/12", 16}, {"10.160.0.0/11", 16}, {"172.20.0.0/14", 16}, {"172.24.0.0/13", 16},
		{"192.168.128.0/17", 20}}
	userPools = []pool{{"10.134.0.0/15", 24}, {"10.192.0.0/12", 24}, {"172.16.0.0/14", 24}, {"192.168.128.0/17", 24}}
)

// asidePools are for networks of other state folders than the usual: those look nowhere else for what is
// used, and may all be in use at once.
var asidePools = []pool{{"10.160.0.0/11", 24}}

// choose finds a subnet that nothing uses, from the nth of each pool on.
func choose(pools []pool, n uint32, all []Network, host []hostnet.Route) (netip.Prefix, bool) {
	for _, p := range pools {
		whole := netip.MustParsePrefix(p.of)
		count := uint32(1) << (p.bits - whole.Bits())
		for i := range count {
			b := whole.Addr().As4()
			binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+(n+i)%count<<(32-p.bits))
			s := netip.PrefixFrom(netip.AddrFrom4(b), p.bits)
			if !used(s, all, host) {
				return s, true
			}
		}
	}
	return netip.Prefix{}, false
}

// chooseULA makes up a subnet as RFC 4193 wants it: nobody else has the same, even when two sites
// become one.
func chooseULA(all []Network, host []hostnet.Route) netip.Prefix {
	for {
		b := [16]byte{0xfd}
		_, _ = rand.Read(b[1:8]) // never fails, crypto/rand
		s := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !used(s, all, host) {
			return s
		}
	}
}

func used(p netip.Prefix, all []Network, host []hostnet.Route) bool {
	return slices.ContainsFunc(host, func(r hostnet.Route) bool { return r.To.Overlaps(p) }) ||
		slices.ContainsFunc(all, func(n Network) bool { return n.overlaps(p) })
}

func (n *Network) overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Overlaps(p) })
}

// clash reports who else uses a subnet that a user wants for this network.
func (n *Network) clash(p netip.Prefix, all []Network, host []hostnet.Route) error {
	for _, o := range all {
		if o.overlaps(p) && n.sameWire(o) {
			return errs.Newf(errs.Exists, "", "", p.String()+" overlaps with the network "+o.Name).WithHint("choose another --subnet; without it Corten finds one")
		}
	}
	if n.Driver != wiring.Bridge { // the host is in the same subnet as its interface
		return nil
	}
	for _, r := range host {
		if !r.To.Overlaps(p) || ours(r) {
			continue
		}
		// A way to a larger net around it, as VPNs have them, is no hindrance for who names a part of it: the
		// closer hostnet.Route wins.
		if r.Routed && r.To.Bits() < p.Bits() {
			continue
		}
		return errs.Newf(errs.Exists, "", "", p.String()+" overlaps with the host's route to "+r.To.String()+" by "+r.Dev).
			WithHint("choose another --subnet; without it Corten finds one")
	}
	return nil
}

// sameWire reports whether the same address on both networks would be two machines' in one net.
func (n *Network) sameWire(o Network) bool {
	if n.Driver == wiring.Bridge || o.Driver == wiring.Bridge {
		return n.Driver == o.Driver
	}
	a, err1 := n.settings()
	b, err2 := o.settings()
	return err1 == nil && err2 == nil && a.link().Name == b.link().Name && a.link().VLAN == b.link().VLAN
}

// ours reports whether the route is of a bridge of ours: of a network that is in the list of networks
// too, or of one that was removed and whose bridge goes soon.
func ours(r hostnet.Route) bool { return r.Dev == "corten0" || strings.HasPrefix(r.Dev, "ct-") }
