package connect_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

// respected is a container whose ports 8080 respect the host's rules, at all addresses.
func (l *lab) respected(n int, respect bool) *box {
	b := l.newBox(link(bridge("ct-r", n), 2))
	for _, p := range []spec.Protocol{spec.TCP, spec.UDP} {
		for _, host := range []string{"0.0.0.0", "::"} {
			f := publish(b.doc.Links[0], p, host, 8080, 80)
			f.Respect = respect
			b.doc.Ports = append(b.doc.Ports, f)
		}
	}
	b.serve(80)
	return b
}

// hostRules are what the host lets in; other addresses of the world are there to be refused.
func (l *lab) hostRules(accept string) {
	l.host.sh("nft -f - <<'E'\ntable inet host\ndelete table inet host\ntable inet host {\nchain input { type filter hook input priority 50; policy drop;\n" +
		"ct state established,related accept\niif lo accept\nmeta l4proto { icmp, ipv6-icmp } accept\n" + accept + "\n}\n}\nE")
}

const (
	to4, to6     = "192.0.2.1:8080", "[2001:db8::1]:8080"
	from4, from6 = "192.0.2.2", "2001:db8::2"
)

func (l *lab) open(p *place, as4, as6 string) {
	l.t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		p.sees(proto, to4, as4)
		p.sees(proto, to6, as6)
	}
}

func (l *lab) shut(p *place) {
	l.t.Helper()
	var all sync.WaitGroup
	for _, proto := range []string{"tcp", "udp"} {
		for _, to := range []string{to4, to6} {
			all.Go(func() { p.sealed(proto, to) })
		}
	}
	all.Wait()
}

// A published port that respects the host's rules is as open as these have it, to the world, to containers and
// to the host itself, and all see each other by their own addresses.
func TestRespect(t *testing.T) {
	for _, strict := range []string{"0", "1"} {
		t.Run("rp_filter "+strict, func(t *testing.T) {
			l := newLab(t)
			l.host.sh("echo " + strict + " >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter")
			l.hostRules("")
			before, routing := l.left(), l.host.sh("ip rule; ip -6 rule")
			b := l.respected(1, true)
			b.up()
			l.shut(l.world)
			l.host.sees("tcp", "127.0.0.1:8080", "")
			l.host.sees("udp", "127.0.0.1:8080", "")
			l.open(l.host, "", "")
			l.hostRules("meta l4proto { tcp, udp } th dport 8080 accept")
			l.open(l.world, from4, from6)
			neighbour := l.newBox(link(bridge("ct-r", 1), 3))
			neighbour.up()
			l.open(neighbour.place, "", "")
			inner := bridge("ct-i", 3)
			inner.Internal = true
			secret := l.newBox(link(inner, 2))
			secret.up()
			secret.sh("ip route add default via 10.200.3.1; ip route add default via fd00:3::1")
			l.shut(secret.place)
			for _, rule := range []string{"ip saddr 192.0.2.3 tcp dport 8080 accept", "tcp dport 8081 accept", "meta l4proto { tcp, udp } th dport 80 accept"} {
				l.hostRules(rule)
				l.shut(l.world)
			}
			l.hostRules("ip saddr 192.0.2.2 meta l4proto { tcp, udp } th dport 8080 accept; ip6 saddr 2001:db8::2 meta l4proto { tcp, udp } th dport 8080 accept")
			l.open(l.world, from4, from6)
			l.world.sh("ip address del 192.0.2.2/24 dev eth0; ip address add 192.0.2.3/24 dev eth0")
			l.world.sealed("tcp", to4)
			l.world.sealed("udp", to4)
			secret.down()
			neighbour.down()
			b.down()
			l.hostRules("")
			l.idle(before)
			if now := l.host.sh("ip rule; ip -6 rule"); now != routing {
				t.Errorf("rules of routing are\n%s and were\n%s", now, routing)
			}
		})
	}
}

// By default what a container publishes is open whatever the host's input says.
func TestPublishedPortsPassInput(t *testing.T) {
	l := newLab(t)
	l.hostRules("")
	b := l.respected(1, false)
	b.up()
	l.open(l.world, from4, from6)
	b.down()
}

// Rules of iptables decide likewise; and what does not respect them beside what does.
func TestRespectIptables(t *testing.T) {
	for _, tool := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(tool, func(t *testing.T) {
			l := newLab(t)
			both := func(lines string) {
				t.Helper()
				for _, family := range []string{tool, strings.Replace(tool, "ip", "ip6", 1)} {
					for line := range strings.SplitSeq(lines, "\n") {
						l.host.sh(family + " -w " + line)
					}
				}
			}
			if out := l.host.sh("command -v " + tool + " && " + tool + " -w -P INPUT DROP || echo no"); strings.Contains(out, "no\n") {
				t.Skip("needs ", tool, ": ", out)
			}
			// As ufw has them: chains of its own, and what is allowed and denied in one that the user fills.
			both("-P INPUT DROP\n-N user\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -j user")
			l.host.sh(strings.Replace(tool, "ip", "ip6", 1) + " -w -I INPUT -p ipv6-icmp -j ACCEPT")
			b := l.respected(1, true)
			b.up()
			l.shut(l.world)
			both("-A user -p tcp --dport 8080 -j ACCEPT\n-A user -p udp --dport 8080 -j ACCEPT")
			l.open(l.world, from4, from6)
			both("-I user -p tcp --dport 8080 -j DROP\n-I user -p udp --dport 8080 -j REJECT")
			l.shut(l.world)
			both("-F user")
			b.down()
		})
	}
}

// The loop is there while a published port respects the host's rules, and when somebody has removed it or the
// rules they are made again.
func TestLoopComesBack(t *testing.T) {
	l := newLab(t)
	l.hostRules("meta l4proto { tcp, udp } th dport 8080 accept")
	before := l.left()
	plain := l.newBox(link(bridge("ct-p", 2), 2))
	plain.up()
	b := l.respected(1, true)
	b.up()
	l.open(l.world, from4, from6)
	for _, spoil := range []string{"ip link del $(ip -o link | sed -n 's/.* \\(ct-.*-out\\)@.*/\\1/p')", "nft delete table ip $(nft list tables | sed -n 's/^table ip //p')",
		"nft flush ruleset"} {
		l.host.sh(spoil)
		peer, _ := l.start("restore", "")
		want(t, peer)
		peer.Close()
		l.hostRules("meta l4proto { tcp, udp } th dport 8080 accept")
		l.open(l.world, from4, from6)
	}
	b.down()
	l.host.sh("for i in $(seq 100); do ip -o link | grep -q -e -out@ || exit 0; sleep 0.05; done; exit 1")
	plain.down()
	l.idle(before)
}
