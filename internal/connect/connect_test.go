package connect_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func TestReach(t *testing.T) {
	l := newLab(t)
	before := l.left()
	l.world.serve(7)
	l.host.serve(22)
	front, back := bridge("ct-f", 1), bridge("ct-b", 2)
	web := l.newBox(link(front, 2))
	web.doc.Ports = []wiring.Forward{
		publish(web.doc.Links[0], spec.TCP, "0.0.0.0", 8080, 80), publish(web.doc.Links[0], spec.TCP, "::", 8080, 80),
		publish(web.doc.Links[0], spec.UDP, "0.0.0.0", 8080, 80), publish(web.doc.Links[0], spec.UDP, "::", 8080, 80),
		publish(web.doc.Links[0], spec.TCP, "127.0.0.1", 8081, 80), publish(web.doc.Links[0], spec.TCP, "192.0.2.1", 8082, 80),
	}
	web.serve(80)
	web.up()
	near := l.newBox(link(front, 3)).up()
	far := l.newBox(link(back, 2)).up()
	far.serve(80)

	t.Run("container to container", func(t *testing.T) {
		near.sees("tcp", "10.200.1.2:80", "10.200.1.3")
		near.sees("tcp", "[fd00:1::2]:80", "fd00:1::3")
	})
	t.Run("to the world", func(t *testing.T) {
		for _, n := range []string{"tcp", "udp"} {
			web.sees(n, "192.0.2.2:7", "192.0.2.1")
			web.sees(n, "[2001:db8::2]:7", "2001:db8::1")
		}
	})
	t.Run("published", func(t *testing.T) {
		for _, n := range []string{"tcp", "udp"} {
			l.world.sees(n, "192.0.2.1:8080", "192.0.2.2")
			l.world.sees(n, "[2001:db8::1]:8080", "2001:db8::2")
			l.host.sees(n, "192.0.2.1:8080", "192.0.2.1")
			l.host.sees(n, "[2001:db8::1]:8080", "")
			l.host.sees(n, "127.0.0.1:8080", "10.200.1.1")
		}
		l.host.sees("tcp", "127.0.0.1:8081", "10.200.1.1")
		l.world.sees("tcp", "192.0.2.1:8082", "192.0.2.2")
		l.world.sealed("tcp", "192.0.2.1:8081")
		l.host.sealed("tcp", "127.0.0.1:8082")
		if _, err := l.host.reach("tcp", "[::1]:8080", soon); !errors.Is(err, unix.ECONNREFUSED) {
			t.Error("[::1] is nobody's port: ", err)
		}
	})
	t.Run("hairpin", func(t *testing.T) {
		for _, n := range []string{"tcp", "udp"} {
			web.sees(n, "192.0.2.1:8080", "10.200.1.1")
			web.sees(n, "[2001:db8::1]:8080", "fd00:1::1")
			near.sees(n, "192.0.2.1:8080", "10.200.1.1")
			near.sees(n, "10.200.1.1:8080", "10.200.1.1")
		}
		far.sees("tcp", "192.0.2.1:8080", "10.200.2.2")
		far.sees("tcp", "[2001:db8::1]:8080", "fd00:2::2")
	})
	t.Run("networks apart", func(t *testing.T) {
		near.sealed("tcp", "10.200.2.2:80")
		near.sealed("tcp", "[fd00:2::2]:80")
		l.world.sh("ip route add 10.200.0.0/16 via 192.0.2.1; ip route add fd00:1::/64 via 2001:db8::1")
		l.world.sealed("tcp", "10.200.1.2:80")
		l.world.sealed("tcp", "[fd00:1::2]:80")
		l.world.sh("ip route del 10.200.0.0/16; ip -6 route del fd00:1::/64")
	})
	t.Run("services of the host at 127.0.0.1", func(t *testing.T) {
		near.sees("tcp", "10.200.1.1:22", "10.200.1.3") // nothing is closed otherwise
		near.sh("ip route add 127.0.0.0/8 via 10.200.1.1 table 5; ip rule add to 127.0.0.1 table 5 pref 1; ip rule add pref 2 table local; ip rule del pref 0; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet")
		near.sealed("tcp", "127.0.0.1:22")
	})
	far.down()
	near.down()
	web.down()
	l.idle(before)
}
