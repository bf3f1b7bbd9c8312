package resolve

import "strconv"

// Addresses are read and written by hand: package net/netip would bring much along that no keeper
// needs, and it checks what is here in the tests.

// parse4 reads an IPv4 address.
func parse4(s []byte) (a [4]byte, ok bool) {
	n, digits, value := 0, 0, 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if digits == 0 || n == 4 {
				return a, false
			}
			a[n] = byte(value)
			n, digits, value = n+1, 0, 0
			continue
		}
		c := s[i]
		if c < '0' || c > '9' || digits > 0 && value == 0 { // a leading zero may mean octal
			return a, false
		}
		if value = value*10 + int(c-'0'); value > 255 {
			return a, false
		}
		digits++
	}
	return a, n == 4
}

// parse6 reads an IPv6 address without a zone (RFC 4291, 2.2).
func parse6(s []byte) (a [16]byte, ok bool) {
	n, gap := 0, -1
	if len(s) >= 2 && s[0] == ':' && s[1] == ':' {
		gap, s = 0, s[2:]
	}
	for len(s) > 0 {
		digits, value := 0, 0
		for digits < len(s) && digits < 5 {
			d := hex(s[digits])
			if d < 0 {
				break
			}
			value = value<<4 | d
			digits++
		}
		switch {
		case digits > 0 && digits < len(s) && s[digits] == '.': // the last 4 bytes as IPv4
			four, ok := parse4(s)
			if !ok || n > 12 {
				return a, false
			}
			copy(a[n:], four[:])
			n, s = n+4, nil
			continue
		case digits == 0 || digits > 4 || n > 14:
			return a, false
		}
		a[n], a[n+1] = byte(value>>8), byte(value)
		n, s = n+2, s[digits:]
		if len(s) == 0 {
			break
		}
		if s[0] != ':' || len(s) == 1 {
			return a, false
		}
		if s = s[1:]; s[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap, s = n, s[1:]
		}
	}
	if gap < 0 {
		return a, n == 16
	}
	if n > 14 { // a gap stands for two bytes at least
		return a, false
	}
	copy(a[16-(n-gap):], a[gap:n])
	clear(a[gap : 16-(n-gap)])
	return a, true
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// append4 writes an IPv4 address.
func append4(b []byte, a [4]byte) []byte {
	for i, n := range a {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return b
}

// append6 writes an IPv6 address as RFC 5952 has it.
func append6(b []byte, a [16]byte) []byte {
	begin, end := -1, -1 // the longest run of zeros, of two groups or more
	for i := 0; i < 16; i += 2 {
		j := i
		for j < 16 && a[j] == 0 && a[j+1] == 0 {
			j += 2
		}
		if j-i > max(end-begin, 2) {
			begin, end = i, j
		}
		if j > i {
			i = j
		}
	}
	for i := 0; i < 16; i += 2 {
		if i == begin {
			b = append(b, ':', ':')
			if i = end; i >= 16 {
				break
			}
		} else if i > 0 {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, uint64(a[i])<<8|uint64(a[i+1]), 16)
	}
	return b
}

// reversed reads the name that an address is asked for by: RFC 1035, 3.5, and RFC 3596, 2.5. It
// appends the address as text.
func reversed(text, name []byte) ([]byte, bool) {
	const end4, end6 = ".in-addr.arpa", ".ip6.arpa"
	if n := len(name) - len(end4); n > 0 && string(name[n:]) == end4 {
		a, ok := parse4(name[:n])
		a[0], a[1], a[2], a[3] = a[3], a[2], a[1], a[0]
		return append4(text, a), ok
	}
	n := len(name) - len(end6)
	if n != 63 || string(name[n:]) != end6 {
		return text, false
	}
	var a [16]byte
	for i := range 32 {
		d := hex(name[2*i])
		if d < 0 || i < 31 && name[2*i+1] != '.' {
			return text, false
		}
		a[15-i/2] |= byte(d << (i % 2 * 4))
	}
	return append6(text, a), true
}
