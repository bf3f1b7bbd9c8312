package connect_test

import (
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func TestInternalAndIsolated(t *testing.T) {
	l := newLab(t)
	before := l.left()
	l.world.serve(7)
	inner, apart := bridge("ct-i", 3), bridge("ct-a", 4)
	inner.Internal, apart.Isolate = true, true
	a, b := l.newBox(link(inner, 2)), l.newBox(link(inner, 3))
	c, d := l.newBox(link(apart, 2)), l.newBox(link(apart, 3))
	for _, x := range []*box{a, b, c, d} {
		x.serve(80)
		x.up()
	}
	a.sees("tcp", "10.200.3.3:80", "10.200.3.2")
	a.sees("tcp", "[fd00:3::3]:80", "fd00:3::2")
	a.sh("ip route add default via 10.200.3.1; ip route add default via fd00:3::1")
	a.sealed("udp", "192.0.2.2:7")
	a.sealed("udp", "[2001:db8::2]:7")
	a.sealed("tcp", "10.200.4.2:80")
	c.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	c.sees("tcp", "[2001:db8::2]:7", "2001:db8::1")
	c.sealed("tcp", "10.200.4.3:80")
	c.sealed("tcp", "[fd00:4::3]:80")
	c.sh("ip route add 10.200.4.3/32 via 10.200.4.1; ip route add fd00:4::3/128 via fd00:4::1")
	c.sealed("tcp", "10.200.4.3:80") // nor by way of the host
	c.sealed("tcp", "[fd00:4::3]:80")
	for _, x := range []*box{a, b, c, d} {
		x.down()
	}
	l.idle(before)
}

func TestTend(t *testing.T) {
	l := newLab(t)
	l.host.sh("nft 'table inet others { chain c { type filter hook forward priority 0; policy accept; tcp dport 22 drop; }; }'")
	before := l.left()
	l.world.serve(7)
	b := l.newBox(link(bridge("ct-f", 1), 2))
	b.doc.Resolver = &wiring.Resolver{Port: 40053, Networks: []string{"ct-f"}, Alone: true}
	b.write()
	b.start("tend")
	b.tell()
	want(t, b.peer)
	b.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	var err error
	b.in(func() {
		var c net.Conn
		if c, err = net.Dial("tcp", "127.0.0.11:53"); err == nil {
			c.Close()
		}
	})
	if err != nil {
		t.Error("name server: ", err)
	}
	b.end()
	if err := unix.Shutdown(int(b.peer.Fd()), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	want(t, b.peer)
	if strings.Contains(l.left(), "table inet corten") {
		t.Error("the rules are there after the end")
	}
	l.idle(before)

	// Who is killed is disconnected as well: before the container is there, and after.
	for _, told := range []bool{false, true} {
		b = l.newBox(link(bridge("ct-f", 1), 2))
		b.write()
		b.start("tend")
		if told {
			b.tell()
			want(t, b.peer)
		}
		b.end()
		b.peer.Close()
		_ = b.proc.Wait()
		l.idle(before)
	}
}

func TestErrors(t *testing.T) {
	l := newLab(t)
	before := l.left()
	b := l.newBox(link(bridge("ct-f", 1), 2))
	b.start("up") // without a document
	if got, _, err := answer(b.peer); err != nil || !strings.HasPrefix(got, `{"kind":2,"op":"connect container"`) {
		t.Errorf("%q %v", got, err)
	}
	b.sh("ip link add eth0 type bridge") // the name is taken
	b.write()
	b.start("up")
	b.tell()
	if got, _, err := answer(b.peer); err != nil || !strings.Contains(got, "file exists") {
		t.Errorf("%q %v", got, err)
	}
	b.end()
	l.idle(before)
}

// A host without IPv6 connects what is left of a network.
func TestWithoutIPv6(t *testing.T) {
	l := newLab(t)
	before := l.left()
	l.host.sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
	l.world.serve(7)
	b := l.newBox(link(bridge("ct-f", 1), 2))
	b.doc.Ports = []wiring.Forward{publish(b.doc.Links[0], spec.TCP, "0.0.0.0", 8080, 80), publish(b.doc.Links[0], spec.TCP, "::", 8080, 80)}
	b.serve(80)
	b.up()
	b.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	if got := l.host.sh("nft list ruleset"); strings.Contains(got, "ip6") {
		t.Error(got)
	}
	b.down()
	l.host.sh("until ! ip link show ct-f 2>/dev/null; do sleep 0.05; done; echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip address add 2001:db8::1/64 dev eth0 nodad; ip route add default via 2001:db8::2")
	l.idle(before)
}

// The name server's sockets are for who starts us, and do not take port 53 away.
func TestNameServer(t *testing.T) {
	l := newLab(t)
	b := l.newBox(link(bridge("ct-f", 1), 2))
	b.doc.Resolver = &wiring.Resolver{Port: 40053}
	b.write()
	b.start("up")
	b.tell()
	fds := want(t, b.peer)
	if len(fds) != 2 {
		t.Fatal(fds)
	}
	udp, tcp := os.NewFile(uintptr(fds[0]), "udp"), os.NewFile(uintptr(fds[1]), "tcp")
	defer udp.Close()
	defer tcp.Close()
	b.serve(53) // of all addresses
	pc, err := net.FilePacketConn(udp)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ln, err := net.FileListener(tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		q := make([]byte, 100)
		if _, from, err := pc.ReadFrom(q); err == nil {
			_, _ = pc.WriteTo([]byte("by name server"), from)
		}
		if c, err := ln.Accept(); err == nil {
			_, _ = io.WriteString(c, "by name server")
			c.Close()
		}
	}()
	b.sees("udp", "127.0.0.11:53", "by name server")
	b.sees("tcp", "127.0.0.11:53", "by name server")
	b.sees("tcp", "10.200.1.2:53", "10.200.1.2")
	if n := b.sh("cat /proc/sys/net/netfilter/nf_conntrack_count"); n != "0\n" {
		t.Error("connections are tracked in the container: ", n)
	}
}

func TestRestore(t *testing.T) {
	l := newLab(t)
	before := l.left()
	b := l.newBox(link(bridge("ct-f", 1), 2))
	b.doc.Ports = []wiring.Forward{publish(b.doc.Links[0], spec.TCP, "0.0.0.0", 8080, 80)}
	b.serve(80)
	b.up()
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	rules := l.host.sh("nft list ruleset")
	for _, flushed := range []string{"flush ruleset", "flush table inet " + table(rules), "delete table bridge " + table(rules)} {
		l.host.sh("nft " + flushed)
		peer, _ := l.start("restore", "")
		want(t, peer)
		peer.Close()
		if got := l.host.sh("nft list ruleset"); got != rules {
			t.Errorf("after %s and restore:\n%s\nbefore:\n%s", flushed, got, rules)
		}
	}
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	l.host.sh("nft flush ruleset")
	next := l.newBox(link(bridge("ct-f", 1), 3)).up() // this finds them gone, too
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	l.host.sh("nft flush ruleset")
	next.down()
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	b.down()
	l.idle(before)
}

// table is the name of our tables.
func table(rules string) string {
	_, rest, _ := strings.Cut(rules, "table inet ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

func TestFlowsOfUDP(t *testing.T) {
	l := newLab(t)
	front := bridge("ct-f", 1)
	boxes := []*box{l.newBox(link(front, 2)), l.newBox(link(front, 3))}
	var c net.Conn
	var err error
	l.world.in(func() { c, err = net.Dial("udp", "192.0.2.1:8080") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("?")) // the host knows the flow before anybody has the port
	for i, b := range boxes {
		b.serve(80)
		b.doc.Ports = []wiring.Forward{publish(b.doc.Links[0], spec.UDP, "0.0.0.0", 8080, 80)}
		b.up()
		_ = c.SetDeadline(time.Now().Add(soon))
		var err error
		for range 2 { // an answer to the first question may be that nobody had the port
			if _, err = c.Write([]byte("?")); err == nil {
				_, err = c.Read(make([]byte, 100))
			}
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("container %d: %v", i, err)
		}
		b.down()
	}
}

// Two interfaces that were there before do not become connected by us.
func TestHostIsNoRouter(t *testing.T) {
	l := newLab(t)
	other := newPlace(t)
	l.host.sh("ip link add eth1 type veth peer name eth0 netns " + itoa(other.pid()) + "; ip address add 198.51.100.1/24 dev eth1; ip address add 2001:db8:1::1/64 dev eth1 nodad; ip link set eth1 up")
	other.sh("ip address add 198.51.100.2/24 dev eth0; ip address add 2001:db8:1::2/64 dev eth0 nodad; ip link set eth0 up; until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done; ip route add default via 198.51.100.1; ip route add default via 2001:db8:1::1")
	l.world.sh("ip route add 198.51.100.0/24 via 192.0.2.1; ip route add 2001:db8:1::/64 via 2001:db8::1")
	other.serve(7)
	before := l.left()
	b := l.newBox(link(bridge("ct-f", 1), 2)).up()
	b.sees("tcp", "198.51.100.2:7", "198.51.100.1")
	l.world.sealed("tcp", "198.51.100.2:7")
	l.world.sealed("tcp", "[2001:db8:1::2]:7")
	if got := l.host.sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"); got != "2\n" {
		t.Error("accept_ra of a host that forwards: ", got)
	}
	b.down()
	l.idle(before)

	// An interface that comes later may be there to be routed to.
	b = l.newBox(link(bridge("ct-f", 1), 2)).up()
	l.host.sh("ip link add later type bridge")
	b.down()
	if got := l.host.sh("cat /proc/sys/net/ipv4/ip_forward"); got != "1\n" {
		t.Error("forwarding is off though an interface has come: ", got)
	}
}

func TestChange(t *testing.T) {
	l := newLab(t)
	before := l.left()
	front, back := bridge("ct-f", 1), bridge("ct-b", 2)
	near := l.newBox(link(back, 3)).up()
	near.serve(80)
	b := l.newBox(link(front, 2)).up()
	b.sealed("tcp", "10.200.2.3:80")
	second := link(back, 2)
	second.Interface, second.Gateways = "eth1", nil
	change := func(links ...wiring.Link) {
		t.Helper()
		b.doc.Links = links
		b.write()
		b.start("change")
		b.tell()
		want(t, b.peer)
		b.peer.Close()
	}
	change(b.doc.Links[0], second)
	b.sees("tcp", "10.200.2.3:80", "10.200.2.2")
	b.sees("tcp", "[fd00:2::3]:80", "fd00:2::2")
	// What was the way out moves to the link that stays.
	l.world.serve(7)
	b.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	first := b.doc.Links[0]
	second.Gateways = link(back, 2).Gateways
	change(second)
	b.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	b.sees("tcp", "[2001:db8::2]:7", "2001:db8::1")
	second.Gateways = nil
	first.HostSide += "x"
	change(first, second)
	b.sees("tcp", "[2001:db8::2]:7", "2001:db8::1")
	if got := b.sh("ip route show default; ip -6 route show default"); strings.Count(got, "default") != 2 || strings.Count(got, "dev eth0") != 2 {
		t.Error("default routes: ", got)
	}
	change(first)
	b.sealed("tcp", "10.200.2.3:80")
	if got := b.sh("ls /sys/class/net >/dev/null; ip -o link | wc -l"); strings.TrimSpace(got) != "2" {
		t.Error("interfaces of the container: ", b.sh("ip link"))
	}
	near.down()
	b.down()
	l.idle(before)
}

func TestMacvlan(t *testing.T) {
	l := newLab(t)
	l.world.serve(7)
	m := wiring.Link{Network: "lan", Driver: wiring.Macvlan, Interface: "eth0", MAC: "02:42:c0:00:02:32", Parent: &wiring.Parent{Name: "eth0", Mode: "bridge"},
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.50/24"), netip.MustParsePrefix("2001:db8::50/64")}, Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
		Rate: spec.Rate{Out: 1 << 30}}
	b := l.newBox(m).up()
	b.sees("tcp", "192.0.2.2:7", "192.0.2.50")
	b.sees("tcp", "[2001:db8::2]:7", "2001:db8::50")
	b.down()

	// The same hardware address again, as of a container that starts again.
	m.Rate.In = 1 << 20
	b = l.newBox(m)
	b.write()
	b.start("up")
	b.tell()
	if got, _, err := answer(b.peer); err != nil || !strings.Contains(got, "no other end") {
		t.Errorf("%q %v", got, err)
	}
}

// A port that an older document has goes to who can have it, and stays there when the older one goes.
func TestPortIsTakenOver(t *testing.T) {
	l := newLab(t)
	before := l.left()
	front := bridge("ct-f", 1)
	dead, next := l.newBox(link(front, 2)), l.newBox(link(front, 3))
	for _, b := range []*box{dead, next} {
		b.serve(80)
		b.doc.Ports = []wiring.Forward{publish(b.doc.Links[0], spec.TCP, "0.0.0.0", 8080, 80)}
	}
	dead.up()
	dead.end()
	next.up()
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	dead.down()
	l.world.sees("tcp", "192.0.2.1:8080", "192.0.2.2")
	next.down()
	l.idle(before)
}

// Somebody removes the run folder right after the last container: its bridge goes all the same.
func TestFolderIsRemoved(t *testing.T) {
	l := newLab(t)
	before := l.left()
	b := l.newBox(link(bridge("ct-f", 1), 2)).up()
	b.down()
	if err := os.RemoveAll(l.dirs.Run); err != nil {
		t.Fatal(err)
	}
	l.idle(before)
}

// Whenever corten-net is killed, down does the rest.
func TestKilled(t *testing.T) {
	l := newLab(t)
	before := l.left()
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	front := bridge("ct-f", 1)
	for i := range rounds {
		lk := link(front, 2+i)
		lk.Rate = spec.Rate{Out: 1 << 26}
		b := l.newBox(lk)
		b.doc.Ports = []wiring.Forward{publish(lk, spec.UDP, "0.0.0.0", 8080, 80)}
		b.write()
		b.start("tend")
		b.tell()
		time.Sleep(time.Duration(rand.IntN(25_000)) * time.Microsecond)
		_ = b.proc.Process.Kill()
		_ = b.proc.Wait()
		b.end()
		if i%2 == 0 { // and the one that is to do the rest
			peer, proc := l.start("down", string(b.doc.ID))
			time.Sleep(time.Duration(rand.IntN(12_000)) * time.Microsecond)
			_ = proc.Process.Kill()
			_ = proc.Wait()
			peer.Close()
		}
		b.lab.down(string(b.doc.ID))
	}
	l.idle(before)
}
