package wiring

import "net/netip"

// HardwareOf makes a MAC address of an address, so that who gets that again is known to its
// neighbours by the right one, and two in a network never have the same. It is locally administered
// and unicast (IEEE 802, first byte 02).
func HardwareOf(a netip.Addr) string {
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

// ParseHardware reads a MAC address of a single machine, in any of the usual spellings.
func ParseHardware(text string) (string, bool) {
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
