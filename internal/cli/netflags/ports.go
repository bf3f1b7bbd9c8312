package netflags

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

const (
	publishHint = "write --publish 8080:80, 127.0.0.1:8080:80/udp, [::1]:8080:80, 8000-8010:8000-8010, or 80 for any port of the host"
	exposeHint  = "write --expose 80, 53/udp or 8000-8010"
)

// portsOf reads every --publish.
func portsOf(texts []string) ([]spec.Port, error) {
	var out []spec.Port
	for _, s := range texts {
		list, err := ParsePublish(s)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if slices.ContainsFunc(out, func(o spec.Port) bool { return collide(o, p) }) {
				return nil, values.Bad("publish", s, "the port of the host is taken by another --publish", "give each another port of the host")
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// collide reports whether two ports of the host are the same one.
func collide(a, b spec.Port) bool {
	if a.HostPort == 0 || a.HostEnd != 0 || b.HostEnd != 0 || a.HostPort != b.HostPort || a.Protocol != b.Protocol {
		return false
	}
	return !a.HostIP.IsValid() || !b.HostIP.IsValid() || a.HostIP == b.HostIP ||
		a.HostIP.Is4() == b.HostIP.Is4() && (a.HostIP.IsUnspecified() || b.HostIP.IsUnspecified())
}

// ParsePublish reads a --publish, of one port or of a range: [[IP:][HOST[-LAST]]:]CONTAINER[-LAST][/PROTOCOL],
// or Docker's published=HOST,target=CONTAINER,protocol=PROTOCOL.
func ParsePublish(s string) ([]spec.Port, error) {
	bad := func(why string) ([]spec.Port, error) { return nil, values.Bad("publish", s, why, publishHint) }
	text := s
	if strings.Contains(s, "=") {
		var ok bool
		if text, ok = standard(s); !ok {
			return bad("not published=HOST,target=CONTAINER,protocol=PROTOCOL")
		}
	}
	text, protocol, ok := cutProtocol(text)
	if !ok {
		return bad("the protocol is none of tcp, udp and sctp")
	}
	container := text[strings.LastIndexByte(text, ':')+1:]
	rest := strings.TrimSuffix(strings.TrimSuffix(text, container), ":")
	host := rest[strings.LastIndexByte(rest, ':')+1:]
	where := strings.TrimSuffix(rest, host)
	if strings.HasSuffix(host, "]") { // [::1]:80 has no place for the host's port
		return bad("the port of the container is missing")
	}
	var ip netip.Addr
	if where != "" {
		if ip, ok = hostIP(strings.TrimSuffix(where, ":")); !ok {
			return bad("not an address of the host")
		}
	}
	if container == "" {
		return bad("the port of the container is missing")
	}
	first, last, ok := portRange(container)
	if !ok || first == 0 {
		return bad("not a port of the container, from 1 to 65535")
	}
	var begin, end uint16
	if host != "" {
		if begin, end, ok = portRange(host); !ok || begin == 0 && end != 0 {
			return bad("not a port of the host, from 0 (any) to 65535")
		}
	}
	return spread(s, spec.Port{Service: spec.Service{Protocol: protocol, Port: first}, HostIP: ip, HostPort: begin}, last, end)
}

// spread makes one Port of each pair of a range of ports. Of a range of the host for one port of
// the container one that is free is taken.
func spread(s string, p spec.Port, last, end uint16) ([]spec.Port, error) {
	switch {
	case p.Port == last && p.HostPort < end:
		p.HostEnd = end
	case p.HostPort != 0 && end-p.HostPort != last-p.Port:
		return nil, values.Bad("publish", s, "the ranges are not of equal length", publishHint)
	}
	list := []spec.Port{p}
	for p.Port < last {
		p.Port++
		if p.HostPort != 0 {
			p.HostPort++
		}
		list = append(list, p)
	}
	return list, nil
}

// standard brings Docker's form of names and values to the other.
func standard(s string) (string, bool) {
	published, target, protocol := "", "", "tcp"
	for field := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(field, "=")
		switch {
		case !ok:
			return "", false
		case key == "published":
			published = value
		case key == "target":
			target = value
		case key == "protocol":
			protocol = value
		case key == "mode": // what it says of Swarm is so here
		default:
			return "", false
		}
	}
	return published + ":" + target + "/" + protocol, true
}

// cutProtocol takes "/tcp" off; without one it is TCP.
func cutProtocol(s string) (rest string, p spec.Protocol, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 || i == len(s)-1 {
		return strings.TrimSuffix(s, "/"), spec.TCP, true
	}
	p = spec.Protocol(strings.ToLower(s[i+1:]))
	return s[:i], p, p == spec.TCP || p == spec.UDP || p == spec.SCTP
}

// hostIP reads an address, of IPv6 in brackets or not.
func hostIP(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(s, ":") {
			return netip.Addr{}, false
		}
	}
	ip, err := netip.ParseAddr(s)
	return ip.Unmap(), err == nil && ip.Zone() == ""
}

// portRange reads PORT or FIRST-LAST.
func portRange(s string) (first, last uint16, ok bool) {
	a, b, more := strings.Cut(s, "-")
	if !more {
		b = a
	}
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	return uint16(lo), uint16(hi), err1 == nil && err2 == nil && lo <= hi
}

// exposed reads every --expose to ports that are named once, in their order.
func exposed(texts []string) ([]spec.Service, error) {
	var out []spec.Service
	for _, s := range texts {
		text, protocol, ok := cutProtocol(s)
		if !ok {
			return nil, values.Bad("expose", s, "the protocol is none of tcp, udp and sctp", exposeHint)
		}
		first, last, ok := portRange(text)
		if !ok || first == 0 {
			return nil, values.Bad("expose", s, "not a port from 1 to 65535", exposeHint)
		}
		for p := uint32(first); p <= uint32(last); p++ {
			out = append(out, spec.Service{Protocol: protocol, Port: uint16(p)})
		}
	}
	return spec.SortServices(out), nil
}

// ParseService reads PORT[/PROTOCOL].
func ParseService(s string) (spec.Service, bool) {
	text, protocol, ok := cutProtocol(s)
	port, last, is := portRange(text)
	return spec.Service{Protocol: protocol, Port: port}, ok && is && port == last && port != 0
}
