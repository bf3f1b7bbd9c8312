package rules

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

func documents() []*wiring.Document {
	inner := &wiring.Switch{Name: "corten0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.133.0.1/16"), netip.MustParsePrefix("fd01::1/64")}}
	back := &wiring.Switch{Name: "ct-0123456789", Addresses: []netip.Prefix{netip.MustParsePrefix("10.134.0.1/24")}, Internal: true, Isolate: true}
	link := func(s *wiring.Switch, host, mac string, addresses ...string) wiring.Link {
		l := wiring.Link{Driver: wiring.Bridge, HostSide: host, MAC: mac, Switch: s}
		for _, a := range addresses {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		return l
	}
	forward := func(p spec.Protocol, host string, port uint16, to string, at uint16) wiring.Forward {
		return wiring.Forward{Service: spec.Service{Protocol: p, Port: at}, HostIP: netip.MustParseAddr(host), HostPort: port, To: netip.MustParseAddr(to)}
	}
	return []*wiring.Document{
		{ID: "a", Links: []wiring.Link{link(inner, "cv0a", "02:42:0a:85:00:02", "10.133.0.2/16", "fd01::2/64")}, Ports: []wiring.Forward{
			forward(spec.TCP, "0.0.0.0", 8080, "10.133.0.2", 80), forward(spec.TCP, "::", 8080, "fd01::2", 80),
			forward(spec.UDP, "127.0.0.1", 53, "10.133.0.2", 5353), forward(spec.SCTP, "2001:db8::1", 9, "fd01::2", 9),
		}},
		{ID: "b", Links: []wiring.Link{
			link(inner, "cv0b", "02:42:0a:85:00:03", "10.133.0.3/16", "fd01::3/64"),
			link(back, "cv1b", "02:42:0a:86:00:02", "10.134.0.2/24"),
			{Driver: wiring.Macvlan, Interface: "eth2", MAC: "02:42:00:00:00:01"},
		}},
	}
}

func TestContentAsText(t *testing.T) {
	for name, facts := range map[string]Facts{
		"both":  {Name: "corten", Pairs: "ctabc", IPv6: true},
		"four":  {Name: "corten", Pairs: "ctabc"},
		"quiet": {Name: "corten", Pairs: "ctabc", IPv6: true, Quiet: []string{"eth0", "eth1"}, Quiet4: true, Quiet6: true},
	} {
		got, file := Of(documents(), facts).String(), "testdata/"+name+".nft"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nand %s says\n%s", name, got, file, want)
		}
	}
}

// What a later container publishes at a port is what counts.
func TestLaterDocumentGoesFirst(t *testing.T) {
	d := documents()
	d[1].Ports = []wiring.Forward{d[0].Ports[0]}
	d[1].Ports[0].To = netip.MustParseAddr("10.133.0.3")
	text := Of(d, Facts{Name: "corten", Pairs: "ctabc"}).String()
	if !strings.Contains(text, "tcp . 8080 : 10.133.0.3 . 80") || strings.Contains(text, "tcp . 8080 : 10.133.0.2") {
		t.Error(text)
	}
}

// inNamespace has the rest of the test in a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // and the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs network namespaces:", err)
	}
}

// nft has nft(8) do something in our namespace.
func nft(t *testing.T, input string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft, of Debian's package nftables")
	}
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

const others = `
table inet others {
	chain forward {
		type filter hook forward priority 0; policy accept;
		tcp dport 22 drop
	}
}
`

func open(t *testing.T) *Conn {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The kernel has what the text says: nft makes the same of it as we do.
func TestKernelHasTheContent(t *testing.T) {
	for _, facts := range []Facts{{Name: "corten", Pairs: "ctabc", IPv6: true}, {Name: "corten", Pairs: "ctabc", IPv6: true, Quiet: []string{"eth0", "eth1"}, Quiet4: true, Quiet6: true}, {Name: "corten", Pairs: "ctabc"}} {
		done := make(chan struct{})
		go func() { // a thread, and so a namespace, for each
			defer close(done)
			inNamespace(t)
			nft(t, Of(documents(), facts).String(), "-f", "-")
			want := nft(t, "", "list", "ruleset")
			nft(t, "", "flush", "ruleset")
			c := open(t)
			if err := c.Make(Of(documents(), facts), facts); err != nil {
				t.Error(err)
				return
			}
			if got := nft(t, "", "list", "ruleset"); got != want {
				t.Errorf("the kernel has\n%s\nand of the text it would have\n%s", got, want)
			}
		}()
		<-done
	}
}

func TestElementsComeAndGo(t *testing.T) {
	inNamespace(t)
	nft(t, others, "-f", "-")
	before := nft(t, "", "list", "ruleset")
	c, d, facts := open(t), documents(), Facts{Name: "corten", Pairs: "ctabc", IPv6: true}

	if err := c.Add(d[0], facts); !errs.Is(err, errs.NotFound) {
		t.Errorf("adding to tables that are not there: %v", err)
	}
	if there, err := Present(facts); err != nil || there {
		t.Errorf("present before: %v %v", there, err)
	}
	check := func(what string, want string) {
		t.Helper()
		if got := nft(t, "", "list", "ruleset"); got != want {
			t.Errorf("%s: the host has\n%s\nand should have\n%s", what, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Make(Of(d[:1], facts), facts))
	one := nft(t, "", "list", "ruleset")
	must(c.Make(Of(d, facts), facts))
	two := nft(t, "", "list", "ruleset")
	must(c.Make(Of(d[:1], facts), facts))
	check("made anew", one)
	must(c.Add(d[1], facts))
	check("added", two)
	must(c.Add(d[1], facts))
	check("added twice", two)
	if there, err := Present(facts); err != nil || !there {
		t.Errorf("present: %v %v", there, err)
	}
	must(c.Remove(d[1], facts))
	must(c.Make(Of(d[:1], facts), facts))
	check("removed", one)
	if err := c.Remove(d[1], facts); !errs.Is(err, errs.NotFound) {
		t.Errorf("removed twice: %v", err)
	}
	taken := documents()[1]
	taken.Ports = []wiring.Forward{d[0].Ports[0]}
	taken.Ports[0].To = netip.MustParseAddr("10.133.0.3")
	if err := c.Add(taken, facts); !errs.Is(err, errs.Exists) {
		t.Errorf("a port that is taken: %v", err)
	}
	check("after errors", one)
	nft(t, "", "flush", "table", "inet", "corten")
	if there, err := Present(facts); err != nil || there {
		t.Errorf("present without its rules: %v %v", there, err)
	}
	must(c.Delete(facts))
	must(c.Delete(facts))
	check("in the end", before)
}

// More elements than a message has room for.
func TestManyDocuments(t *testing.T) {
	inNamespace(t)
	c, facts := open(t), Facts{Name: "corten", Pairs: "ctabc", IPv6: true}
	var all []*wiring.Document
	for i := range 2000 {
		d := documents()[0]
		a := netip.AddrFrom4([4]byte{10, 133, byte(i >> 8), byte(i)})
		d.Links[0].HostSide, d.Links[0].Addresses = "cv"+decimal(uint16(i)), []netip.Prefix{netip.PrefixFrom(a, 16)}
		d.Ports = d.Ports[:1]
		d.Ports[0].HostPort, d.Ports[0].To = uint16(i+1), a
		all = append(all, d)
	}
	if err := c.Make(Of(all, facts), facts); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(nft(t, "", "list", "map", "inet", "corten", "any4"), "tcp . "); n != len(all) {
		t.Errorf("%d of %d elements", n, len(all))
	}
}
