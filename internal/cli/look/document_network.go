package look

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

// networkDoc is Docker's NetworkSettings. A container that is connected to nothing has no
// addresses.
type networkDoc struct {
	SandboxKey string
	Ports      map[string][]bindingDoc // of the container; nil: nothing leads there
	addressDoc                         // of its first network
	Networks   map[string]endpointDoc
}

type bindingDoc struct{ HostIp, HostPort string }

type addressDoc struct {
	Gateway, IPAddress             string
	IPPrefixLen                    int
	IPv6Gateway, GlobalIPv6Address string
	GlobalIPv6PrefixLen            int
	MacAddress                     string
}

type endpointDoc struct {
	IPAMConfig *askedDoc
	Aliases    []string
	DNSNames   []string
	DriverOpts map[string]string
	NetworkID  string
	EndpointID string
	Interface  string `json:",omitempty"` // in the container
	addressDoc
}

// askedDoc is the addresses that a user asked for.
type askedDoc struct{ IPv4Address, IPv6Address string }

// networksOf is the networks that a container is on, or Docker's name of what it has instead.
func networksOf(s *spec.Container) []string {
	switch net := s.Namespaces.Net; net.Mode {
	case spec.Of:
		return []string{"container:" + net.Path}
	case spec.Path:
		return []string{"ns:" + net.Path}
	case spec.Host, spec.None:
		return []string{string(net.Mode)}
	}
	names := []string{}
	for _, a := range s.Networking.Attachments {
		names = append(names, a.Network)
	}
	if len(names) == 0 {
		return []string{string(spec.None)}
	}
	return names
}

func newNetwork(s *spec.Container, x surroundings) networkDoc {
	d := networkDoc{Ports: portsDoc(s, x.wiring), Networks: map[string]endpointDoc{}}
	if m := s.Namespaces.Net.Mode; m == spec.Host || m == spec.None {
		d.Networks[string(m)] = endpointDoc{Aliases: []string{}, DNSNames: []string{}, DriverOpts: map[string]string{}}
	}
	for _, a := range s.Networking.Attachments {
		e := endpointDoc{Aliases: append([]string{}, a.Aliases...), DNSNames: []string{}, DriverOpts: map[string]string{}, NetworkID: x.network(a.Network)}
		if a.IP4.IsValid() || a.IP6.IsValid() {
			e.IPAMConfig = &askedDoc{textOf(a.IP4), textOf(a.IP6)}
		}
		if a.Network != spec.DefaultNetwork {
			e.DNSNames = slices.Concat([]string{s.Name}, a.Aliases, []string{s.ID.Short()})
		}
		e.MacAddress = a.MAC
		d.Networks[a.Network] = e
	}
	if x.wiring == nil {
		return d
	}
	for i, l := range x.wiring.Links {
		e := d.Networks[l.Network]
		e.addressDoc, e.Interface = newAddress(l), l.Interface
		if i == 0 {
			d.addressDoc = e.addressDoc
		}
		d.Networks[l.Network] = e
	}
	return d
}

func newAddress(l engine.Link) addressDoc {
	d := addressDoc{MacAddress: l.MAC}
	for _, a := range l.Addresses {
		if a.Addr().Is4() {
			d.IPAddress, d.IPPrefixLen = a.Addr().String(), a.Bits()
		} else {
			d.GlobalIPv6Address, d.GlobalIPv6PrefixLen = a.Addr().String(), a.Bits()
		}
	}
	for _, g := range l.Gateways {
		if g.Is4() {
			d.Gateway = g.String()
		} else {
			d.IPv6Gateway = g.String()
		}
	}
	return d
}

// portsDoc is where each port of a running container can be reached.
func portsDoc(s *spec.Container, w *engine.Wiring) map[string][]bindingDoc {
	d := map[string][]bindingDoc{}
	if w == nil {
		return d
	}
	for _, e := range s.Networking.Expose {
		d[e.String()] = nil
	}
	for _, p := range w.Ports {
		key := p.Service.String()
		d[key] = append(d[key], bindingDoc{textOf(p.HostIP), strconv.Itoa(int(p.HostPort))})
	}
	return d
}

// bindingsDoc is what ports a user wants published.
func bindingsDoc(s *spec.Container) map[string][]bindingDoc {
	d := map[string][]bindingDoc{}
	for _, p := range s.Networking.Ports {
		b := bindingDoc{HostIp: textOf(p.HostIP)}
		if p.HostPort != 0 {
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		if p.HostEnd != 0 {
			b.HostPort += "-" + strconv.Itoa(int(p.HostEnd))
		}
		d[p.Service.String()] = append(d[p.Service.String()], b)
	}
	return d
}

func exposedDoc(s *spec.Container) map[string]struct{} {
	var d map[string]struct{}
	for _, e := range s.Networking.Expose {
		if d == nil {
			d = map[string]struct{}{}
		}
		d[e.String()] = struct{}{}
	}
	return d
}

func extraHosts(s *spec.Container) []string {
	var out []string
	for _, h := range s.Networking.Hosts {
		out = append(out, h.Name+":"+h.IP)
	}
	return out
}

func textOf(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.String()
}
