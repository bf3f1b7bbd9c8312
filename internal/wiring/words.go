package wiring

import (
	"net/netip"
	"strconv"
	"strings"
)

// Words says in words what a document asks for, a line for each interface and port.
func (d *Document) Words() []string {
	var out []string
	for _, l := range d.Links {
		out = append(out, l.words())
	}
	for _, p := range d.Ports {
		to := "port " + strconv.Itoa(int(p.Port)) + " of the address that it gets"
		if p.To.IsValid() {
			to = netip.AddrPortFrom(p.To, p.Port).String()
		}
		out = append(out, "lead "+netip.AddrPortFrom(p.HostIP, p.HostPort).String()+"/"+string(p.Protocol)+" of the host to "+to)
	}
	if d.Resolver != nil {
		out = append(out, "answer for names at "+ResolverIP)
	}
	return out
}

func (l Link) words() string {
	var parts []string
	if l.Plugins != nil {
		parts = append(parts, "execute "+strings.Join(l.Plugins.Types, ", then ")+" as "+l.Plugins.File+" says")
	}
	for _, a := range l.Addresses {
		parts = append(parts, a.String())
	}
	for _, g := range l.Gateways {
		parts = append(parts, "to the world by "+g.String())
	}
	if l.Switch != nil && l.Switch.Internal {
		parts = append(parts, "no way out")
	}
	if l.Rate.In > 0 {
		parts = append(parts, "at most "+strconv.FormatUint(l.Rate.In, 10)+" bit/s in")
	}
	if l.Rate.Out > 0 {
		parts = append(parts, "at most "+strconv.FormatUint(l.Rate.Out, 10)+" bit/s out")
	}
	return l.Interface + " to the network " + l.Network + " (" + string(l.Driver) + "): " + strings.Join(parts, ", ")
}
