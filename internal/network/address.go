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

// hardware makes a MAC address of an address, so that who gets that again is known to its
// neighbours by the right one, and two in a network never have the same. It is locally administered
// and unicast (IEEE 802, first byte 02).
func hardware(a netip.Addr) string {
	b := [6]byte{0x02, 0x42}
	if a.Is4() {
		v4 := a.As4()
		copy(b[2:], v4[:])
	} else {
		sum := uint64(14695981039346656037) // FNV-1a
		for _, c := range a.AsSlice() {
			sum = (sum ^ uint64(c)) * 1099511628211
		}
		for i := 1; i < 6; i++ {
			b[i], sum = byte(sum), sum>>8
		}
	}
	return macText(b)
}

func macText(b [6]byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 17)
	for i, c := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// parseMAC reads a MAC address of a single machine, in any of the usual spellings.
func parseMAC(text string) (string, bool) {
	var b [6]byte
	n := 0
	for _, r := range text {
		var v byte
		switch {
		case r >= '0' && r <= '9':
			v = byte(r - '0')
		case r >= 'a' && r <= 'f':
			v = byte(r-'a') + 10
		case r >= 'A' && r <= 'F':
			v = byte(r-'A') + 10
		case n%2 == 0 && n > 0 && (r == ':' || r == '-'):
			continue
		default:
			return "", false
		}
		if n == 12 {
			return "", false
		}
		b[n/2] = b[n/2]<<4 | v
		n++
	}
	return macText(b), n == 12 && b[0]&1 == 0 && b != [6]byte{}
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
