package draft

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func TestResolvConf(t *testing.T) {
	const host = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n;nameserver 192.0.2.9\n" +
		"nameserver 2001:db8::53\ndomain old.example\nsearch a.example b.example\noptions edns0\noptions trust-ad timeout:1\nnameserver"
	r := parseResolvConf(host)
	if want := []string{"192.0.2.1", "2001:db8::53"}; !slices.Equal(r.remote(), want) {
		t.Errorf("servers that a container reaches: %q, want %q", r.remote(), want)
	}
	const want = "nameserver 192.0.2.1\nnameserver 2001:db8::53\nsearch a.example b.example\noptions edns0 trust-ad timeout:1\n"
	if got := r.text(r.remote()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	mine := r.over(spec.Networking{DNS: []string{"192.0.2.7"}, DNSSearch: []string{"."}, DNSOptions: []string{"ndots:0"}})
	if got, want := mine.text(mine.servers), "nameserver 192.0.2.7\noptions ndots:0\n"; got != want {
		t.Errorf("with the user's words over it: %q, want %q", got, want)
	}
	if got := parseResolvConf("").text(nil); got != "" {
		t.Errorf("of an empty file: %q", got)
	}
}

func TestHostsFile(t *testing.T) {
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	doc := &wiring.Document{Links: []wiring.Link{
		{Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/16"), netip.MustParsePrefix("fd00::2/64")},
			Switch: &wiring.Switch{Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("fd00::1/64")}}},
		{Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.0.9/24")}},
	}}
	gateway := []spec.HostEntry{{Name: "up", IP: spec.HostGateway}, {Name: "db", IP: "192.0.2.5"}}
	for _, c := range []struct {
		name string
		host string
		dom  string
		more []spec.HostEntry
		doc  *wiring.Document
		want string
	}{
		{"without networks", "box", "", nil, nil, "127.0.1.1\tbox\n"},
		{"without a name", "", "", nil, nil, ""},
		{"with a domain", "box", "example", nil, nil, "127.0.1.1\tbox.example box\n"},
		{"on networks", "box", "", gateway, doc, "10.1.0.2\tbox\nfd00::2\tbox\n10.2.0.9\tbox\n10.1.0.1\tup\nfd00::1\tup\n192.0.2.5\tdb\n"},
		{"in the host's network", "box", "", gateway, nil, "127.0.1.1\tbox\n127.0.0.1\tup\n192.0.2.5\tdb\n"},
	} {
		x := &spec.Container{Namespaces: spec.Namespaces{Hostname: c.host, Domainname: c.dom}}
		if got := hostsFile(x, c.more, c.doc); got != local+c.want {
			t.Errorf("%s: %q, want %q after the lines of localhost", c.name, got, c.want)
		}
	}
}
