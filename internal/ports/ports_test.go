package ports_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/callers"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/ports"
	"github.com/cortenhq/corten/internal/spec"
)

// apart runs a test in a network namespace of its own, with a loopback. Its thread ends with it.
func apart(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

func tcp(ip string, port uint16) spec.Port { return of(spec.TCP, ip, port) }

func of(proto spec.Protocol, ip string, port uint16) spec.Port {
	p := spec.Port{Service: spec.Service{Protocol: proto, Port: 80}, HostPort: port}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

func hold(t *testing.T, list ...spec.Port) *ports.Held {
	t.Helper()
	h, err := ports.Hold(list, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// refuses fails unless the port cannot be held, for a reason of that kind that says each of the words.
func refuses(t *testing.T, kind errs.Kind, p spec.Port, words ...string) {
	t.Helper()
	h, err := ports.Hold([]spec.Port{p}, nil, false)
	if err == nil {
		h.Close()
		t.Fatalf("held %+v", p)
	}
	if !errs.Is(err, kind) {
		t.Errorf("%v is of kind %v, want %v", err, errs.KindOf(err), kind)
	}
	for _, w := range append(words, string(p.Protocol)) {
		if !strings.Contains(err.Error()+errs.HintOf(err), w) {
			t.Errorf("%q (hint %q) does not mention %q", err, errs.HintOf(err), w)
		}
	}
}

func TestTaken(t *testing.T) {
	apart(t)
	h := hold(t, tcp("", 8080))
	if len(h.Files) != 2 {
		t.Errorf("%d sockets, want one of each family", len(h.Files))
	}
	refuses(t, errs.Busy, tcp("", 8080), "*:8080/tcp", "ss -tlnp sport = :8080")
	refuses(t, errs.Busy, tcp("127.0.0.1", 8080), "127.0.0.1:8080/tcp")
	refuses(t, errs.Busy, tcp("::1", 8080), "[::1]:8080/tcp")
	for _, at := range []string{"127.0.0.1:8080", "[::1]:8080", ":8080"} {
		if l, err := net.Listen("tcp", at); err == nil {
			l.Close()
			t.Errorf("another program listens at %s", at)
		}
		if c, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connected to %s: %v, %v", at, c, err)
		}
	}
	hold(t, of(spec.UDP, "", 8080))
	refuses(t, errs.Busy, of(spec.UDP, "", 8080), "*:8080/udp", "ss -ulnp")
	hold(t, tcp("127.0.0.1", 8081))
	hold(t, tcp("::1", 8081))
	hold(t, tcp("127.0.0.2", 8081))
	refuses(t, errs.Busy, tcp("", 8081))
	h.Close()
	hold(t, tcp("", 8080))
	refuses(t, errs.Invalid, tcp("192.0.2.1", 8082), "192.0.2.1", "no such address")
}

func TestListener(t *testing.T) {
	apart(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		refuses(t, errs.Busy, tcp("", port))
		l.Close()
		hold(t, tcp("", port))
	}
}

// left leaves connections of a server that has ended behind, in TIME_WAIT, and returns its port.
func left(t *testing.T, at string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // who closes first has the connection in TIME_WAIT
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestTimeWait(t *testing.T) {
	apart(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := left(t, at)
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}); err != unix.EADDRINUSE {
			t.Errorf("the port can be had without sharing it (%v): this tests nothing", err)
		}
		unix.Close(fd)
		h := hold(t, tcp("", port))
		refuses(t, errs.Busy, tcp("", port))
		host := strings.TrimSuffix(at, ":0")
		if l, err := net.Listen("tcp", net.JoinHostPort(strings.Trim(host, "[]"), "0")); err != nil {
			t.Error(err)
		} else {
			l.Close()
		}
		for _, on := range []string{"127.0.0.1", "::1", "::"} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(on), port).String()
			if l, err := net.Listen("tcp", addr); err == nil {
				l.Close()
				t.Errorf("another program listens at %s", addr)
			}
			if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("connecting to %s: %v", addr, err)
			}
		}
		h.Close()
		again := hold(t, tcp("", port))
		again.Close()
	}
}

// TestRace has many hold one port at once, half of the time with connections left on it.
func TestRace(t *testing.T) {
	apart(t)
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for round := range 20 {
		port := uint16(7000 + round)
		if round%2 == 0 {
			port = left(t, "127.0.0.1:0")
		}
		var wait sync.WaitGroup
		var mu sync.Mutex
		var held []*ports.Held
		for range 16 {
			wait.Go(func() {
				runtime.LockOSThread() // never unlocked: the thread is not for others
				if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
					t.Error(err)
					return
				}
				h, err := ports.Hold([]spec.Port{tcp("", port)}, nil, false)
				if err == nil {
					mu.Lock()
					held = append(held, h)
					mu.Unlock()
				} else if !errs.Is(err, errs.Busy) {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if len(held) > 1 {
			t.Errorf("%d have port %d", len(held), port)
		}
		for _, h := range held {
			h.Close()
		}
		hold(t, tcp("", port))
	}
}

func TestFound(t *testing.T) {
	apart(t)
	hold(t, tcp("::1", 9000))
	ranged := tcp("", 9000)
	ranged.HostEnd = 9002
	for _, want := range []uint16{9001, 9002} {
		if h := hold(t, ranged); h.Ports[0].HostPort != want || h.Ports[0].HostEnd != 0 || len(h.Files) != 2 {
			t.Errorf("found %+v, want port %d", h.Ports[0], want)
		}
	}
	refuses(t, errs.Busy, ranged, "9000-9002/tcp")

	expose := []spec.Service{{Protocol: spec.TCP, Port: 80}, {Protocol: spec.TCP, Port: 443}, {Protocol: spec.UDP, Port: 443}}
	h, err := ports.Hold([]spec.Port{tcp("", 9100), tcp("", 9100)}, expose, true)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if len(h.Ports) != 3 || len(h.Files) != 6 || h.Ports[0].HostPort != 9100 {
		t.Fatalf("held %+v with %d sockets", h.Ports, len(h.Files))
	}
	for _, p := range h.Ports {
		if p.HostPort == 0 {
			t.Errorf("no port for %v", p.Service)
		}
		refuses(t, errs.Busy, of(p.Protocol, "127.0.0.1", p.HostPort))
		refuses(t, errs.Busy, of(p.Protocol, "::1", p.HostPort))
	}
	other := tcp("", 9200)
	other.Service.Port = 81
	if _, err := ports.Hold([]spec.Port{tcp("", 9200), other}, nil, false); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "81/tcp") {
		t.Errorf("one port of the host for two: %v", err)
	}
	hold(t, tcp("", 9200)) // nothing was kept of that
}

// TestDeaf sees that what nobody reads does not wait for a reader.
func TestDeaf(t *testing.T) {
	apart(t)
	h := hold(t, of(spec.UDP, "127.0.0.1", 9300))
	c, err := net.Dial("udp", "127.0.0.1:9300")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Error(err)
	}
	if n, _, err := unix.Recvfrom(int(h.Files[0].Fd()), make([]byte, 10), unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("received %d bytes, %v", n, err)
	}
}

func TestSCTP(t *testing.T) {
	apart(t)
	h := hold(t, of(spec.SCTP, "", 9400))
	if len(h.Files) == 0 {
		t.Skip("this kernel has no SCTP: nobody can have the port")
	}
	refuses(t, errs.Busy, of(spec.SCTP, "", 9400))
}

func BenchmarkHold(b *testing.B) {
	for b.Loop() {
		h, err := ports.Hold([]spec.Port{tcp("127.0.0.1", 0)}, nil, false)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// TestHear sees who can be heard at the ports of [::1], and nobody else.
func TestHear(t *testing.T) {
	apart(t)
	h := hold(t, tcp("", left(t, "[::1]:0"))) // with what is left of connections
	port := strconv.Itoa(int(h.Ports[0].HostPort))
	other, err := ports.Hold([]spec.Port{of(spec.UDP, "", 9501), tcp("::1", 9502), tcp("127.0.0.1", 9503)}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	h.Files = append(other.Files, h.Files...)
	hear, err := h.Hear()
	if err != nil || len(hear) != 3 {
		t.Fatalf("%d sockets hear, %v", len(hear), err)
	}
	box, err := h.Box()
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	h.Close()
	for range 2 { // they stay in the box
		fds := callers.Sockets(int(box.Fd()))
		if len(fds) != 3 {
			t.Errorf("%d sockets in the box hear", len(fds))
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	w := callers.New(int(box.Fd()), 20)
	poll, _ := w.Turn(1)
	defer w.Close()
	ready := func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(poll), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	}
	if _, err := net.Dial("tcp", "127.0.0.1:9503"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("127.0.0.1: %v", err)
	}
	send := func(at string) {
		c, err := net.Dial("udp", at)
		if err == nil {
			_, err = c.Write([]byte("?"))
			c.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	if send("127.0.0.1:9501"); ready() {
		t.Error("somebody who came elsewhere was heard")
	}
	if send("[::1]:9501"); !ready() {
		t.Error("nobody was heard")
	}
	w.Close()
	if poll, _ = w.Turn(2); !ready() {
		t.Error("who waits is forgotten")
	}
	for _, at := range []string{"[::1]:" + port, "[::1]:9502"} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}
