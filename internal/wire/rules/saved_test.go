package rules

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/wiring"
)

// Who saves the host's rules while containers run can load them again: nft(8) reads what it lists, and has
// the same then; and programs that look at all tables take no offence at ours.
func TestSaved(t *testing.T) {
	ask := documents()
	for i := range ask[0].Ports {
		ask[0].Ports[i].Respect = true
	}
	loop := wiring.LoopOf("/run/corten")
	for name, c := range map[string]struct {
		documents []*wiring.Document
		facts     Facts
	}{
		"both":    {documents(), Facts{Name: "corten", Pairs: "ctabc", IPv6: true}},
		"four":    {documents(), Facts{Name: "corten", Pairs: "ctabc"}},
		"quiet":   {documents(), Facts{Name: "corten", Pairs: "ctabc", IPv6: true, Quiet: []string{"eth0", "eth1"}, Quiet4: true, Quiet6: true}},
		"respect": {ask, Facts{Name: "corten-1234", Pairs: "ctabc", IPv6: true, Loop: loop, Index: 7}},
		"nobody":  {nil, Facts{Name: "corten", Pairs: "ctabc", IPv6: true, Loop: loop, Index: 7, Respect: true}},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t)
			if c.facts.Index != 0 {
				if out, err := exec.Command("ip", "link", "add", loop.Out, "index", "7", "type", "veth", "peer", "name", loop.In).CombinedOutput(); err != nil {
					t.Skipf("needs ip, and pairs of interfaces: %v: %s", err, out)
				}
			}
			nft(t, others, "-f", "-")
			k := open(t)
			if err := k.Make(Of(c.documents, c.facts), c.facts); err != nil {
				t.Fatal(err)
			}
			listed := nft(t, "", "list", "ruleset")
			file := filepath.Join(t.TempDir(), "saved")
			if err := os.WriteFile(file, []byte(listed), 0o600); err != nil {
				t.Fatal(err)
			}
			nft(t, "", "-c", "-f", file)
			for _, option := range []string{"-j", "-a", "-s", "-n"} {
				if out := nft(t, "", option, "list", "ruleset"); option == "-j" && !json.Valid([]byte(out)) {
					t.Errorf("%s", out)
				}
			}
			nft(t, "", "flush", "ruleset")
			nft(t, "", "-f", file)
			if again := nft(t, "", "list", "ruleset"); again != listed {
				t.Errorf("saved were\n%s\nand of that comes\n%s", listed, again)
			}
			// What was loaded is ours as before.
			for _, d := range c.documents {
				if err := k.Add(d, c.facts); err != nil {
					t.Error(err)
				}
			}
			if there, err := Present(c.facts); err != nil || !there {
				t.Errorf("present: %v %v", there, err)
			}
			t.Run("iptables", unoffended)
		})
	}
}

// unoffended has other programs for the kernel's rules look at them.
func unoffended(t *testing.T) {
	for _, line := range []string{
		"iptables-nft -w -S", "iptables-nft -w -t nat -L -n", "iptables-nft-save",
		"ip6tables-nft -w -S", "ip6tables-nft -w -t nat -L -n", "ip6tables-nft-save",
		"ebtables-nft -L", "arptables-nft -L",
	} {
		words := strings.Fields(line)
		if _, err := exec.LookPath(words[0]); err != nil {
			t.Skipf("needs %s, of Debian's package iptables", words[0])
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil || strings.Contains(string(out), "ncompatible") || strings.Contains(string(out), "corten") {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}
