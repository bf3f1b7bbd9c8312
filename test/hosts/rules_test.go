package hosts_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// others are rules that a host has of somebody else's, as they make them, and the commands by which the
// administrator lets containers through where those drop what they do not know.
func others() []struct{ name, tool, load, rules, open string } {
	return []struct{ name, tool, load, rules, open string }{
		{name: "nothing"},
		{"by hand", "nft", "nft -f -", `
table inet filter {
	set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.0/24 } }
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif lo accept
		meta l4proto { icmp, ipv6-icmp } accept
		ip saddr @friends tcp dport 22 counter accept
	}
	chain forward { type filter hook forward priority filter; policy accept; ct state invalid counter drop; }
}
table ip nat {
	chain post { type nat hook postrouting priority srcnat; policy accept; ip saddr 10.99.0.0/16 counter masquerade; }
}
`, ""},
		{"like firewalld", "nft", "nft -f -", `
table inet firewalld {
	chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; }
	chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; oifname "eth9" masquerade; }
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		iifname "lo" accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 22 ct state { new, untracked } accept
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump zones
		reject with icmpx admin-prohibited
	}
	chain zones { }
}
`, `nft "add rule inet firewalld zones iifname $bridge accept; add rule inet firewalld zones oifname $bridge accept"`},
		{"docker's", "iptables-restore", "iptables-restore", `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
`, "iptables -I DOCKER-USER -o $bridge -j ACCEPT; iptables -I DOCKER-USER -i $bridge -j ACCEPT"},
		{"like ufw", "iptables-restore", "iptables-restore", `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`, "iptables -A ufw-user-forward -o $bridge -j ACCEPT; iptables -A ufw-user-forward -i $bridge -j ACCEPT"},
	}
}

// TestOthersRules has somebody else's rules on a host. They are the same before the first container and after the
// last, byte for byte, and published ports are reached beside them, where need be by the commands that
// Corten's users are told.
func TestOthersRules(t *testing.T) {
	t.Parallel()
	for _, o := range others() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			if o.tool != "" {
				if _, err := exec.LookPath(o.tool); err != nil {
					t.Skip("needs ", o.tool)
				}
			}
			a, b, _ := newLan(t)
			if o.load != "" {
				cmd := exec.Command("sh", "-ec", o.load)
				cmd.Stdin = strings.NewReader(o.rules)
				if out, err := a.output(cmd); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			a.hosts()
			if o.open != "" {
				a.corten("run", "--rm", "--network", "bridge", "host", "true") // from now on the bridge has its name
				a.unchanged()
				a.sh("bridge=" + a.bridge() + "; " + o.open)
				a.before = a.state()
			}
			whole := a.sh("nft list ruleset")
			a.corten("run", "--rm", "--network", "bridge", "-p", "8080:80", "host", "true")
			a.same(whole)
			a.corten(box("-d --name web --network bridge -p 8080:80 -p 8080:80/udp", "serve", "80")...)
			for _, f := range families {
				a.ready(f.tcp, at(a.addressOf("web", f.tcp), 80))
				b.sees(f.tcp, at(f.a, 8080), f.b)
				b.sees(f.udp, at(f.a, 8080), f.b)
				a.sees(f.tcp, at(f.a, 8080), "")
			}
			a.corten("rm", "-f", "web") // that the rules are the same then is looked at without counters
		})
	}
}

// bridge is the interface of the default network.
func (m *machine) bridge() string {
	m.t.Helper()
	var n struct{ Bridge string }
	b, err := os.ReadFile(filepath.Join(m.root, "networks/bridge.json"))
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return n.Bridge
}

// same checks that the rules are what they were, at once.
func (m *machine) same(before string) {
	m.t.Helper()
	if now := m.sh("nft list ruleset"); now != before {
		m.t.Errorf("%s: the rules are not as they were:\n%s", m.name, difference(before, now))
	}
}

// TestFlushed has somebody flush all rules: the next command makes ours again, and if none comes, a keeper does.
func TestFlushed(t *testing.T) {
	t.Parallel()
	a, b, _ := newLan(t)
	a.hosts()
	a.corten(box("-d --name web --network bridge -p 8080:80", "serve", "80")...)
	for _, f := range families {
		b.ready(f.tcp, at(f.a, 8080))
	}
	rules := a.sh("nft list ruleset")
	for _, again := range []struct {
		by   string
		wait time.Duration
		do   func()
	}{
		{"a command", soon, func() { a.corten("ps") }}, // not in the second after a start, when rules and documents may differ
		{"a keeper", 20 * time.Second, func() {}},
	} {
		a.sh("nft flush ruleset")
		b.sealed("tcp4", at(a4, 8080))
		a.until("rules made again by "+again.by, again.wait, func() error {
			again.do()
			if now := a.sh("nft list ruleset"); now != rules {
				return errors.New("there are other rules:\n" + difference(rules, now))
			}
			return nil
		})
		for _, f := range families {
			b.sees(f.tcp, at(f.a, 8080), f.b)
		}
	}
	a.corten("rm", "-f", "web")
	if left, _ := filepath.Glob(filepath.Join(a.run, "net/wired/*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
