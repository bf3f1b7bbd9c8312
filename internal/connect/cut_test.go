package connect_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/wiring"
)

// A namespace outlives its container when another one is in it. That one is then on no network.
func TestNamespaceIsKept(t *testing.T) {
	l := newLab(t)
	before := l.left()
	l.world.serve(7)
	s := bridge("ct-f", 1)
	mine := link(s, 2)
	mine.HostSide = wiring.PairPrefix(l.dirs.Run) + "abcdefgh"
	a, near := l.newBox(mine), l.newBox(link(s, 3))
	near.serve(80)
	a.up()
	near.up()
	a.sees("tcp", "10.200.1.3:80", "10.200.1.2")
	l.down(string(a.doc.ID)) // its process stays: that of another container
	cut := func() {
		t.Helper()
		a.sealed("tcp", "10.200.1.3:80")
		a.sealed("tcp", "[fd00:1::3]:80")
		a.sealed("udp", "192.0.2.2:7")
	}
	cut()
	a.sh("ip link set eth0 down; ip link set eth0 up; ip route add default via 10.200.1.1") // with all rights there
	if l.host.sh("ip -o link show master ct-f | wc -l") == "2\n" {                          // else it was deleted by now
		cut()
	}
	again := l.newBox(mine) // the container is started again
	again.doc.ID, again.doc.Links[0].HostSide = a.doc.ID, wiring.PairPrefix(l.dirs.Run)+"ijklmnop"
	again.up()
	again.sees("tcp", "10.200.1.3:80", "10.200.1.2")
	cut()
	for range 100 {
		if !strings.Contains(l.host.sh("ip -o link"), "abcdefgh") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if strings.Contains(l.host.sh("ip -o link"), "abcdefgh") {
		t.Error("the pair is there still")
	}
	again.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	again.down()
	near.down()
	a.end()
	l.idle(before)
}

// So with an interface on one of the host's.
func TestNamespaceIsKeptOnParent(t *testing.T) {
	l := newLab(t)
	m := link(bridge("ct-m", 1), 2)
	m.Driver, m.Switch, m.HostSide, m.Gateways = wiring.Macvlan, nil, "", nil
	m.Parent = &wiring.Parent{Name: "eth0"}
	a := l.newBox(m)
	a.write()
	a.start("up")
	a.tell()
	if got, _, err := answer(a.peer); err == nil && strings.Contains(got, "the kernel has no") {
		t.Skip(got)
	} else if err != nil || got != "ok" {
		t.Fatal(got, err)
	}
	l.down(string(a.doc.ID))
	if got := a.sh("ip -o link show eth0"); strings.Contains(got, ",UP") {
		t.Errorf("it is up: %s", got)
	}
	if _, err := os.Stat(a.path()); err == nil {
		t.Error("the document is there")
	}
}
