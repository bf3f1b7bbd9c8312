package network

import (
	"crypto/rand"
	"net/netip"
	"slices"

	"github.com/cortenhq/corten/internal/hostnet"
)

// bounds are the first and the last address that containers are given.
func (s Subnet) bounds() (low, high netip.Addr) {
	p := s.Subnet
	if s.Range.IsValid() {
		p = s.Range
	}
	low, high = p.Addr(), last(p)
	if low == s.Subnet.Addr() { // the network itself; with IPv6 every router answers to it
		low = low.Next()
	}
	if high == broadcast(s.Subnet) {
		high = high.Prev()
	}
	return low, high
}

// free finds the first address from a given one on that is not taken; after the last comes the
// first again.
func (s Subnet) free(from netip.Addr, taken func(netip.Addr) bool) (netip.Addr, bool) {
	low, high := s.bounds()
	if high.Less(low) { // a range of one address, which is the network's
		return netip.Addr{}, false
	}
	if !from.IsValid() || from.Less(low) || high.Less(from) {
		from = low
	}
	for a := from; ; {
		if a != s.Gateway && !taken(a) {
			return a, true
		}
		if a = a.Next(); !a.IsValid() || high.Less(a) {
			a = low
		}
		if a == from {
			return netip.Addr{}, false
		}
	}
}

// allowed reports what is wrong with an address that a user wants.
func (s Subnet) allowed(a netip.Addr) error {
	low, _ := Subnet{Subnet: s.Subnet}.bounds()
	switch {
	case !s.Subnet.Contains(a):
		return refuse(a.String()+" is not in the subnet "+s.Subnet.String(), "choose one that is, or leave it to Corten")
	case a == s.Gateway:
		return refuse(a.String()+" is the gateway's", "choose another, or leave it to Corten")
	case a == s.Subnet.Addr():
		return refuse(a.String()+" is the subnet itself", "the first for a container is "+low.String())
	case a == broadcast(s.Subnet):
		return refuse(a.String()+" is the subnet's broadcast address", "choose another, or leave it to Corten")
	}
	return nil
}

// random is n characters that a name of an interface may have, 5 bits each.
func random(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567" // base32 of RFC 4648, in small letters
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, crypto/rand
	for i := range b {
		b[i] = letters[b[i]&31]
	}
	return string(b)
}

// families are the subnets that count on this kernel.
func (n *Network) families() []Subnet {
	if !n.has(true) || hostnet.HasIPv6() {
		return n.Subnets
	}
	return slices.DeleteFunc(slices.Clone(n.Subnets), func(s Subnet) bool { return s.Subnet.Addr().Is6() })
}
