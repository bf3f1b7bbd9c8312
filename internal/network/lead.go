package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// What follows from all the links of a container together, each of the network beside it.

// routes gives the links their default routes: by the first network that has a way out for the
// family.
func routes(links []wiring.Link, nets []Network) {
	for i := range links {
		links[i].Gateways = nil
	}
	for _, v6 := range []bool{false, true} {
		for i := range links {
			if g := gateway(&links[i], &nets[i], v6); g.IsValid() {
				links[i].Gateways = append(links[i].Gateways, g)
				break
			}
		}
	}
}

// gateway is the way out by a link; the zero address where there is none, and 0.0.0.0 or :: where the kernel
// of the parent's host routes by itself (ipvlan in the modes l3 and l3s).
func gateway(l *wiring.Link, n *Network, v6 bool) netip.Addr {
	if n.Internal || !address(l, v6).IsValid() {
		return netip.Addr{}
	}
	if l.Parent != nil && strings.HasPrefix(l.Parent.Mode, "l3") {
		return anyAddress(v6)
	}
	i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Addr().Is6() == v6 })
	if i < 0 {
		return netip.Addr{}
	}
	return n.Subnets[i].Gateway
}

func anyAddress(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// address is a link's of one family; zero: it has none.
func address(l *wiring.Link, v6 bool) netip.Addr {
	for _, a := range l.Addresses {
		if a.Addr().Is6() == v6 {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// target is the link that published ports of a family lead to, and the address there: the first
// that the host has a bridge and a way out for.
func target(links []wiring.Link, v6 bool) (*wiring.Link, netip.Addr) {
	for i := range links {
		l := &links[i]
		if a := address(l, v6); a.IsValid() && l.Switch != nil && !l.Switch.Internal {
			return l, a
		}
	}
	return nil, netip.Addr{}
}

// forwards leads ports of the host to the container: those of every address in both families, where
// the container has an address of it.
func forwards(links []wiring.Link, ports []spec.Port) ([]wiring.Forward, error) {
	var out []wiring.Forward
	for _, p := range ports {
		had := len(out)
		ips := []netip.Addr{p.HostIP.Unmap()}
		if !p.HostIP.IsValid() {
			ips = []netip.Addr{anyAddress(false), anyAddress(true)}
		}
		for _, ip := range ips {
			if l, to := target(links, ip.Is6()); l != nil {
				out = append(out, wiring.Forward{Service: p.Service, HostIP: ip, HostPort: p.HostPort, To: to, Respect: l.Switch.Respect})
			}
		}
		if len(out) == had {
			return nil, refuse("nothing leads to its port "+p.Service.String()+" from "+where(p)+" of the host: it is on no bridge network with a way out and such an address",
				"connect it to one, or leave -p out")
		}
	}
	return out, nil
}

func where(p spec.Port) string {
	if !p.HostIP.IsValid() {
		return "any address"
	}
	return p.HostIP.String()
}

// lead aims published ports at what the links are now. Those that nothing is left for go.
func lead(doc *wiring.Document) {
	doc.Ports = slices.DeleteFunc(doc.Ports, func(f wiring.Forward) bool { l, _ := target(doc.Links, f.HostIP.Is6()); return l == nil })
	for i := range doc.Ports {
		f := &doc.Ports[i]
		l, to := target(doc.Links, f.HostIP.Is6())
		f.To, f.Respect = to, l.Switch.Respect
	}
}

// know tells a resolver which networks it knows the names of, and whether it may ask others.
func know(r *wiring.Resolver, nets []Network) {
	r.Networks, r.Alone = []string{}, len(nets) > 0
	for _, n := range nets {
		if n.Name != spec.DefaultNetwork {
			r.Networks = append(r.Networks, n.Name)
		}
		r.Alone = r.Alone && n.Internal
	}
}
