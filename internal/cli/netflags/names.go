package netflags

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// address reads an address.
func address(flag, s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return ip, values.Bad(flag, s, "not an address", "write one such as 10.0.0.5 or fd00::5")
	}
	return ip.Unmap(), nil
}

// hardware brings a MAC address to six pairs of digits with colons between.
func hardware(flag, s string) (string, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", ".", "").Replace(s))
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' || r == '.' })
	const hint = "write six pairs of digits, the first even: 02:42:ac:11:00:02"
	switch {
	case err != nil || len(b) != 6 || len(parts) != 6 && len(parts) != 3:
		return "", values.Bad(flag, s, "not a hardware address", hint)
	case b[0]&1 != 0:
		return "", values.Bad(flag, s, "an address of many (multicast)", hint)
	case [6]byte(b) == [6]byte{}:
		return "", values.Bad(flag, s, "all zero", hint)
	}
	text := make([]string, 6)
	for i := range b {
		text[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(text, ":"), nil
}

// servers reads every --dns.
func servers(texts []string) ([]string, error) {
	var out []string
	for _, s := range texts {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, values.Bad("dns", s, "not an address", "write that of a name server, such as 9.9.9.9")
		}
		out = append(out, ip.String())
	}
	return out, nil
}

// domains reads every --dns-search. A single dot is none.
func domains(texts []string) ([]string, error) {
	for _, s := range texts {
		if s == "." && len(texts) > 1 {
			return nil, values.Conflict("--dns-search .", "another --dns-search", "the dot is for no domains")
		}
		if s != "." && !validHost(strings.TrimSuffix(s, ".")) {
			return nil, values.Bad("dns-search", s, "not a domain", "write one such as example.org, or . for none")
		}
	}
	return texts, nil
}

func dnsOptions(texts []string) ([]string, error) {
	for _, s := range texts {
		if s == "" || strings.ContainsFunc(s, notPrintable) {
			return nil, values.Bad("dns-option", s, "not an option", "write one of resolv.conf(5): ndots:2")
		}
	}
	return texts, nil
}

// hostsOf reads every --add-host: NAME=ADDRESS or NAME:ADDRESS, of IPv6 in brackets or not. As
// for Podman there may be several names with ; between.
func hostsOf(texts []string) ([]spec.HostEntry, error) {
	const hint = "write NAME=ADDRESS, such as db=10.0.0.5, db=[fd00::5] or db=host-gateway"
	var out []spec.HostEntry
	for _, s := range texts {
		names, ip, ok := strings.Cut(s, "=")
		if !ok {
			names, ip, ok = strings.Cut(s, ":")
		}
		if !ok {
			return nil, values.Bad("add-host", s, "no address", hint)
		}
		if inner, is := strings.CutPrefix(ip, "["); is {
			if ip, is = strings.CutSuffix(inner, "]"); !is {
				return nil, values.Bad("add-host", s, "not an address", hint)
			}
		}
		if addr, err := netip.ParseAddr(ip); ip != spec.HostGateway && (err != nil || addr.Zone() != "") {
			return nil, values.Bad("add-host", s, "not an address", hint)
		}
		for name := range strings.SplitSeq(names, ";") {
			if name == "" || strings.ContainsFunc(name, notPrintable) || strings.ContainsAny(name, ":#") {
				return nil, values.Bad("add-host", s, "not a name", hint)
			}
			out = append(out, spec.HostEntry{Name: name, IP: ip})
		}
	}
	return out, nil
}

func notPrintable(r rune) bool { return r <= ' ' || r == 0x7f }

// validHost reports whether s can be asked for, RFC 1035; an underscore is in many names.
func validHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}
