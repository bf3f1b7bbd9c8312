package hosts_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// families are TCP and UDP over both, with the addresses that the machines a and b have.
var families = []struct{ tcp, udp, a, b, loopback string }{
	{"tcp4", "udp4", a4, b4, "127.0.0.1"},
	{"tcp6", "udp6", a6, b6, "::1"},
}

// TestPublished reaches a published port from wherever it can be reached, and looks as whom.
func TestPublished(t *testing.T) {
	a, b, _ := newLan(t)
	a.hosts()
	b.hosts()
	a.corten(box("-d --name web --network bridge -p 8080:80 -p 8080:80/udp", "serve", "80")...)
	for _, f := range families {
		for _, n := range []string{f.tcp, f.udp} {
			a.ready(n, at(f.a, 8080))
			b.sees(n, at(f.a, 8080), f.b)
			a.sees(n, at(f.loopback, 8080), "")
			a.sees(n, at(f.a, 8080), "")
			// Another container and the container itself, by the host's address (hairpin), and one on another machine.
			a.asks("--network bridge", n, at(f.a, 8080))
			if out, err := a.output(a.command("exec", "web", "/"+peerName, "ask", n, at(f.a, 8080))); err != nil {
				t.Errorf("the container itself, %s: %v: %s", n, err, out)
			}
			if as := b.asks("--network bridge", n, at(f.a, 8080)); as != f.b {
				t.Errorf("a container on another machine, %s, is seen as %q, want %s", n, as, f.b)
			}
		}
	}
	a.corten("rm", "-f", "web")
	for _, f := range families {
		b.sealed(f.tcp, at(f.a, 8080))
		b.sealed(f.udp, at(f.a, 8080))
	}
}

// ready waits for a server that was just started.
func (m *machine) ready(network, address string) {
	m.t.Helper()
	m.until("wait for "+network+" "+address, 10*time.Second, func() error { _, err := m.reach(network, address, time.Second); return err })
}

// asks asks from a new container, and returns as whom that is seen.
func (m *machine) asks(flags, network, address string) string {
	m.t.Helper()
	out, err := m.output(m.command(box("--rm "+flags, "ask", network, address)...))
	if err != nil {
		m.t.Errorf("%s: a container with %s to %s %s: %v: %s", m.name, flags, network, address, err, out)
	}
	return strings.TrimSpace(out)
}

func (m *machine) refused(flags, network, address string) {
	m.t.Helper()
	// What is dropped is only known by waiting: a server that is there answers well within that.
	if out, err := m.output(m.command(box("--rm "+flags, "ask", network, address)...)); err == nil {
		m.t.Errorf("%s: a container with %s reaches %s %s as %s", m.name, flags, network, address, out)
	}
}

// TestApart has two networks, one of them internal: they reach neither each other nor, from that one, the world.
func TestApart(t *testing.T) {
	t.Parallel()
	a, b, router := newLan(t)
	a.hosts()
	a.corten("network", "create", "--ipv6", "red")
	a.corten("network", "create", "--ipv6", "blue")
	a.corten("network", "create", "--ipv6", "--internal", "closed")
	b.hosts()
	b.corten(box("-d --name world --network host", "serve", "8000")...)
	for _, n := range []string{"red", "blue", "closed"} {
		a.corten(box("-d --name "+n+" --network "+n, "serve", "80")...)
	}
	for _, f := range families {
		b.ready(f.udp, at(f.loopback, 8000))
		for _, n := range []string{"red", "blue", "closed"} {
			a.ready(f.udp, at(a.addressOf(n, f.tcp), 80))
		}
	}
	a.asks("--network red", "tcp", "red:80")
	a.asks("--network closed", "tcp", "closed:80")
	for _, f := range families {
		a.sees(f.tcp, at(a.addressOf("red", f.tcp), 80), "")
		if as := a.asks("--network red", f.tcp, at(f.b, 8000)); as != f.a {
			t.Errorf("%s: the world sees a container as %q, want %s", f.tcp, as, f.a)
		}
	}
	var all []func()
	for _, f := range families {
		router.sh("ip route add " + a.addressOf("red", f.tcp) + " via " + f.a)
		all = append(all,
			func() { a.refused("--network red", f.tcp, at(a.addressOf("blue", f.tcp), 80)) },
			func() { a.refused("--network closed", f.tcp, at(a.addressOf("blue", f.tcp), 80)) },
			func() { a.refused("--network red", f.udp, at(a.addressOf("closed", f.udp), 80)) },
			func() { a.refused("--network closed", f.tcp, at(f.b, 8000)) },
			func() { a.refused("--network closed", f.udp, at(f.b, 8000)) },
			// A machine whose way to it is by the host does not reach what is not published.
			func() { b.sealed(f.tcp, at(a.addressOf("red", f.tcp), 80)) })
	}
	together(all)
	a.corten("rm", "-f", "red", "blue", "closed")
	a.corten("network", "rm", "red", "blue", "closed")
}

// together does what takes long because it waits.
func together(all []func()) {
	done := make(chan bool)
	for _, f := range all {
		go func() { defer func() { done <- true }(); f() }()
	}
	for range all {
		<-done
	}
}

// addressOf is a running container's address, of the family that a network's name ends with.
func (m *machine) addressOf(name, family string) string {
	m.t.Helper()
	field := "IPAddress"
	if strings.HasSuffix(family, "6") {
		field = "GlobalIPv6Address"
	}
	return strings.TrimSpace(m.corten("inspect", "-f", "{{range .NetworkSettings.Networks}}{{."+field+"}}{{end}}", name))
}

// TestPartition cuts machines off from each other for a while: connections go on afterwards, and names resolve.
func TestPartition(t *testing.T) {
	t.Parallel()
	for _, cut := range []struct{ name, cut, heal string }{
		{"drop", "nft 'add table inet cut; add chain inet cut c { type filter hook forward priority 0; policy drop; }'", "nft delete table inet cut"},
		{"link", "ip link set to-b down", "ip link set to-b up; until ip link show to-b | grep -q 'state UP'; do sleep 0.01; done"},
	} {
		t.Run(cut.name, func(t *testing.T) {
			t.Parallel()
			a, b, router := newLan(t)
			a.hosts()
			upstream := b.upstream()
			defer upstream.Close()
			a.corten("network", "create", "--ipv6", "lab")
			a.corten(box("-d --name web --network lab --dns "+b4+" -p 8080:80 -p 8080:80/udp", "serve", "80")...)
			var lasting []*lasting
			for _, f := range families {
				a.ready(f.tcp, at(f.a, 8080))
				lasting = append(lasting, b.connect(f.tcp, at(f.a, 8080)))
			}
			a.resolves("web", "far"+outsideName)
			router.sh(cut.cut)
			for i, f := range families {
				lasting[i].say("during") // it stays in the kernel's queue
				b.sealed(f.tcp, at(f.a, 8080))
			}
			a.resolves("web", "web") // those of its own network it still knows
			router.sh(cut.heal)
			for i, f := range families {
				lasting[i].hears("during")
				b.sees(f.tcp, at(f.a, 8080), f.b)
				b.sees(f.udp, at(f.a, 8080), f.b)
			}
			a.resolves("web", "near"+outsideName)
			a.corten("rm", "-f", "web")
			a.corten("network", "rm", "lab")
		})
	}
}

// upstream has a server of names on a machine.
func (m *machine) upstream() (c net.PacketConn) {
	m.t.Helper()
	var err error
	m.in(func() { c, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		m.t.Fatal(err)
	}
	go answerNames(c)
	return c
}

// resolves has a container look up a name, as any program does.
func (m *machine) resolves(container, name string) {
	m.t.Helper()
	m.until(container+" looks up "+name, 20*time.Second, func() error {
		out, err := m.output(m.command("exec", container, "/"+peerName, "lookup", name))
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
}

// lasting is a connection to a server that answers with what it is told.
type lasting struct {
	m *machine
	c net.Conn
	r *bufio.Reader
}

func (m *machine) connect(network, address string) *lasting {
	m.t.Helper()
	l := &lasting{m: m}
	var err error
	m.in(func() { l.c, err = net.DialTimeout(network, address, soon) })
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.c.Close() })
	l.r = bufio.NewReader(l.c)
	_ = l.c.SetDeadline(time.Now().Add(time.Minute)) // TCP tries again after ever longer times
	if _, err := l.r.ReadString('\n'); err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (l *lasting) say(word string) {
	l.m.t.Helper()
	if _, err := l.c.Write([]byte(word + "\n")); err != nil {
		l.m.t.Error(err)
	}
}

func (l *lasting) hears(word string) {
	l.m.t.Helper()
	got, err := l.r.ReadString('\n')
	if err == nil && got != word+"\n" {
		err = errors.New("it is another")
	}
	if err != nil {
		l.m.t.Errorf("%v: the word %q: %v", l.c.RemoteAddr(), got, err)
	}
}
