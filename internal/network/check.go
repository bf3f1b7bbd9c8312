package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/wiring"
)

// validName reports whether a network may have that name: it becomes the name of a file, too.
func validName(name string) bool {
	for i, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || i > 0 && strings.ContainsRune("_.-", r)
		if !ok {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// validInterface reports whether an interface may have that name: as the kernel's dev_valid_name
// has it, and no character that a shell or a rule would take for something else.
func validInterface(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) < unix.IFNAMSIZ &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/:\"'\\*%", r) })
}

// check reports what is wrong with a network: what a user said, or what a file says.
func (n *Network) check() error {
	if !validName(n.Name) || len(n.ID) != 64 || strings.Trim(n.ID, "0123456789abcdef") != "" {
		return refuse("it has no proper name and id", "")
	}
	switch n.Driver {
	case wiring.Bridge:
		if !validInterface(n.Bridge) || n.Bridge == "lo" {
			return refuse(strconv.Quote(n.Bridge)+" cannot be the name of an interface", "want at most 15 characters: --opt com.docker.network.bridge.name=br0")
		}
	case wiring.Macvlan, wiring.Ipvlan:
	default:
		return refuse("there is no driver "+strconv.Quote(string(n.Driver)), "")
	}
	set, err := n.settings()
	if err != nil {
		return err
	}
	if set.mtu != 0 && set.mtu < 1280 && n.has(true) {
		return refuse("IPv6 needs an mtu of 1280", "leave IPv6 or --opt mtu out")
	}
	for i, s := range n.Subnets {
		if err := s.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(n.Subnets[:i], func(o Subnet) bool { return o.Subnet.Addr().Is6() == s.Subnet.Addr().Is6() }) {
			return refuse("it has two subnets of one family", "make a network of each, and connect containers to both")
		}
	}
	return nil
}

func (s Subnet) check() error {
	p := s.Subnet
	a := p.Addr()
	if !p.IsValid() || p != p.Masked() || a.Is4In6() {
		return refuse("the subnet "+p.String()+" is none", "want 10.9.8.0/24, or fd00:9:8::/64")
	}
	if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.Is4() && a.As4()[0] >= 224 || a.Is4() && a.As4()[0] == 0 {
		return refuse("the subnet "+p.String()+" is for something else", "choose a private one, such as 10.9.8.0/24 or fd00:9:8::/64")
	}
	if p.Bits() > a.BitLen()-2 || p.Bits() < 8 {
		return refuse("the subnet "+p.String()+" has no sensible size", "want /8 to /30, or to /126 for IPv6")
	}
	if g := s.Gateway; g.IsValid() && (!p.Contains(g) || g == a || g == broadcast(p)) {
		return refuse("the gateway "+g.String()+" is no address of a host in "+p.String(), "the first one is usual: "+a.Next().String())
	}
	if r := s.Range; r.IsValid() && (r != r.Masked() || !p.Contains(r.Addr()) || r.Bits() < p.Bits()) {
		return refuse("the range "+r.String()+" is not within "+p.String(), "")
	}
	return nil
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// broadcast is the address that no host may have, besides the first one. IPv6 has none.
func broadcast(p netip.Prefix) netip.Addr {
	if p.Addr().Is6() {
		return netip.Addr{}
	}
	return last(p)
}
