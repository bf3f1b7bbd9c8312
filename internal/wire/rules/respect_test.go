package rules

import (
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// The tables for ports that respect the host's rules: as text, and as the kernel has them.
func TestRespect(t *testing.T) {
	inNamespace(t)
	facts := Facts{Name: "corten", Pairs: "ctabc", IPv6: true, Loop: wiring.LoopOf("/run/corten")}
	d := documents()
	for i := range d[0].Ports {
		d[0].Ports[i].Respect = i != 2
	}
	d[1].Ports = []wiring.Forward{{Service: spec.Service{Protocol: spec.UDP, Port: 5}, HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 4, To: netip.MustParseAddr("10.133.0.3"), Respect: true}}
	content := Of(d, facts)[2:]
	got, file := content.String(), "testdata/respect.nft"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("it is\n%s\nand %s says\n%s (%v)", got, file, want, err)
	}
	if out, err := exec.Command("ip", "link", "add", facts.Loop.Out, "index", "7", "type", "veth", "peer", "name", facts.Loop.In).CombinedOutput(); err != nil {
		t.Skipf("needs ip, and pairs of interfaces: %v: %s", err, out)
	}
	nft(t, got, "-f", "-")
	want := nft(t, "", "list", "ruleset")
	nft(t, "", "flush", "ruleset")
	c := open(t)
	facts.Index = 7
	if err := c.Make(Of(d, facts)[2:], facts); err != nil {
		t.Fatal(err)
	}
	if got := nft(t, "", "list", "ruleset"); got != want {
		t.Errorf("the kernel has\n%s\nand of the text it would have\n%s", got, want)
	}
	if err := c.Make(Of(d, facts), facts); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(d[0], facts); err != nil {
		t.Error(err)
	}
	if err := c.Add(d[0], facts); err != nil {
		t.Error(err)
	}
	for _, wanted := range []bool{true, false} {
		if there, err := Present(Facts{Name: "corten", Pairs: "ctabc", IPv6: true, Loop: facts.Loop, Respect: true}); err != nil || there != wanted {
			t.Errorf("present: %v %v", there, err)
		}
		nft(t, "", "flush", "chain", "ip6", "corten", "take")
	}
	if err := c.Delete(facts); err != nil {
		t.Fatal(err)
	}
	if left := nft(t, "", "list", "ruleset"); left != "" {
		t.Errorf("left: %s", left)
	}
}
