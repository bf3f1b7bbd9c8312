package draft

import (
	"net/netip"
	"os"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// resolvConf is what a resolv.conf(5) says.
type resolvConf struct {
	servers []string // addresses
	search  []string
	options []string
}

// hostResolvConf is the host's. Where systemd-resolved has only itself there, it has the servers that
// it asks in a file of its own.
func hostResolvConf() resolvConf {
	b, _ := os.ReadFile("/etc/resolv.conf") // without: no servers, which resolv.conf(5) allows
	r := parseResolvConf(string(b))
	if len(r.remote()) == 0 {
		if b, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			r = parseResolvConf(string(b))
		}
	}
	return r
}

func parseResolvConf(text string) resolvConf {
	var r resolvConf
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], ";") {
			continue
		}
		switch words[0] {
		case "nameserver":
			r.servers = append(r.servers, words[1])
		case "domain":
			r.search = words[1:2]
		case "search":
			r.search = words[1:] // the last line of the kind counts
		case "options":
			r.options = append(r.options, words[1:]...)
		}
	}
	return r
}

// remote is the servers that are not the host itself: a container reaches no others.
func (r resolvConf) remote() []string {
	var out []string
	for _, s := range r.servers {
		if a, err := netip.ParseAddr(s); err == nil && !a.IsLoopback() && a.Zone() == "" {
			out = append(out, s)
		}
	}
	return out
}

// over puts what the user said over what the host says.
func (r resolvConf) over(n spec.Networking) resolvConf {
	if len(n.DNS) > 0 {
		r.servers = n.DNS
	}
	switch {
	case len(n.DNSSearch) == 1 && n.DNSSearch[0] == ".":
		r.search = nil
	case len(n.DNSSearch) > 0:
		r.search = n.DNSSearch
	}
	if len(n.DNSOptions) > 0 {
		r.options = n.DNSOptions
	}
	return r
}

// text is the file of a container that asks servers.
func (r resolvConf) text(servers []string) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(r.search) > 0 {
		b.WriteString("search " + strings.Join(r.search, " ") + "\n")
	}
	if len(r.options) > 0 {
		b.WriteString("options " + strings.Join(r.options, " ") + "\n")
	}
	return b.String()
}

// hostsFile is /etc/hosts of a container: itself by each of its addresses, then what the user
// adds. Without networks it is 127.0.1.1, as Debian has it.
func hostsFile(c *spec.Container, more []spec.HostEntry, doc *wiring.Document) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	names := c.Namespaces.Hostname
	if d := c.Namespaces.Domainname; names != "" && d != "" {
		names = names + "." + d + " " + names
	}
	found := false
	if doc != nil && names != "" {
		for _, l := range doc.Links {
			for _, a := range l.Addresses {
				b.WriteString(a.Addr().String() + "\t" + names + "\n")
				found = true
			}
		}
	}
	if !found && names != "" {
		b.WriteString("127.0.1.1\t" + names + "\n")
	}
	return b.String() + hostLines(more, doc)
}

func hostLines(list []spec.HostEntry, doc *wiring.Document) string {
	var b strings.Builder
	for _, h := range list {
		for _, ip := range hostIPs(h.IP, doc) {
			b.WriteString(ip + "\t" + h.Name + "\n")
		}
	}
	return b.String()
}

// hostIPs is an address, or for spec.HostGateway those of the host on the container's networks.
func hostIPs(ip string, doc *wiring.Document) []string {
	if ip != spec.HostGateway {
		return []string{ip}
	}
	if doc == nil { // in the host's own network
		return []string{"127.0.0.1"}
	}
	var out []string
	for _, l := range doc.Links {
		if l.Switch == nil {
			continue
		}
		for _, a := range l.Switch.Addresses {
			out = append(out, a.Addr().String())
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}
