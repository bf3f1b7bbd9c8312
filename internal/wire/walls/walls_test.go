package walls

import (
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// do executes lines of a shell in the namespace of the thread; without its tools the test is skipped.
func do(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		tool, _, _ := strings.Cut(line, " ")
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

const byHand = `nft 'table inet host { chain in { type filter hook input priority 0; policy drop; }; chain f { type filter hook forward priority 0; policy accept; ct state established accept; counter drop; }; }'
`

// Each ruleset is a wall until its own commands have been executed, and only then.
func TestWalls(t *testing.T) {
	for name, c := range map[string]struct {
		load string
		want []Wall
		same string // what the tool does not understand here is done by this instead
	}{
		"nothing":   {},
		"open":      {load: `nft 'table inet host { chain f { type filter hook forward priority 0; policy accept; ip saddr 192.0.2.1 drop; }; chain i { type filter hook input priority 0; policy drop; }; }'`},
		"ours":      {load: `nft 'table inet corten { chain forward { type filter hook forward priority 0; policy drop; }; }'`},
		"by hand":   {load: byHand, want: []Wall{{Family: "inet", Table: "host", Chain: "f"}}},
		"by policy": {load: `nft 'table ip6 host { chain f { type filter hook forward priority 0; policy drop; }; }'`, want: []Wall{{Family: "ip6", Table: "host", Chain: "f"}}},
		"firewalld": {load: `nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct status dnat accept; jump z; reject with icmpx admin-prohibited; }; chain z { }; }'`,
			want: []Wall{{Owner: Firewalld, Family: "inet", Table: "firewalld", Chain: "filter_FORWARD"}},
			same: `nft add rule inet firewalld z iifname corten0 accept`},
		"docker": {load: "iptables-nft -w -N DOCKER-USER\niptables-nft -w -P FORWARD DROP\niptables-nft -w -A FORWARD -j DOCKER-USER\niptables-nft -w -A FORWARD -i docker0 -j ACCEPT",
			want: []Wall{{Owner: Docker, Family: "ip", Table: "filter", Chain: "FORWARD"}}, same: "iptables-nft -w -I DOCKER-USER -i corten0 -j ACCEPT"},
		"ufw": {load: "ip6tables-nft -w -N ufw6-before-forward\nip6tables-nft -w -P FORWARD DROP",
			want: []Wall{{Owner: UFW, Family: "ip6", Table: "filter", Chain: "FORWARD"}}, same: "ip6tables-nft -w -A ufw6-before-forward -i corten+ -j ACCEPT"},
		"legacy": {load: "iptables-legacy -w -P FORWARD DROP\niptables-legacy -w -A FORWARD -i eth0 -j ACCEPT",
			want: []Wall{{Family: "ip", Table: "filter", Chain: "FORWARD", Legacy: true}}},
		"docker, legacy": {load: "iptables-legacy -w -N DOCKER-USER\niptables-legacy -w -P FORWARD DROP",
			want: []Wall{{Owner: Docker, Family: "ip", Table: "filter", Chain: "FORWARD", Legacy: true}}, same: "iptables-legacy -w -I DOCKER-USER -o corten0 -j ACCEPT"},
		"legacy 6":     {load: "ip6tables-legacy -w -P FORWARD DROP", want: []Wall{{Family: "ip6", Table: "filter", Chain: "FORWARD", Legacy: true}}},
		"legacy, open": {load: "iptables-legacy -w -P INPUT DROP\nip6tables-legacy -w -P OUTPUT DROP"},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("needs root")
			}
			runtime.LockOSThread() // and the thread ends with the test
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Skip("needs network namespaces: ", err)
			}
			do(t, c.load)
			found, err := Look("corten0")
			if err != nil || !reflect.DeepEqual(found, c.want) {
				t.Fatalf("found %+v (%v), want %+v", found, err, c.want)
			}
			if len(found) == 0 {
				return
			}
			if who, open := Words(found, "corten0"); len(who) != 1 || len(open) < 2 {
				t.Errorf("%q, %q", who, open)
			} else if c.same == "" {
				c.same = strings.Join(open, "\n")
			}
			do(t, c.same)
			if found, err := Look("corten0"); err != nil || found != nil {
				t.Errorf("after %s: %+v (%v)", c.same, found, err)
			}
		})
	}
}

func BenchmarkLook(b *testing.B) {
	for b.Loop() {
		_, _ = Look("corten0")
	}
}
