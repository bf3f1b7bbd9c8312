package connect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/connect"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// asProgram has the test's own program be corten-net.
const asProgram = "CONNECT_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		a := os.Args[1:]
		if err := connect.Do(connect.Request{Mode: a[0], Dirs: network.Dirs{Root: a[1], Run: a[2]}, ID: spec.ContainerID(a[3]), FD: 3}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// place is a network namespace: of a process that sleeps in it.
type place struct {
	t    *testing.T
	proc *exec.Cmd
	open []io.Closer // sockets in it, which keep it alive
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return newPlaceAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
}

// newPlaceAs is as a container's, if a is: of a user namespace of its own.
func newPlaceAs(t *testing.T, a *syscall.SysProcAttr) *place {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = a
	if err := cmd.Start(); err != nil {
		t.Skip("needs network namespaces and sleep:", err)
	}
	p := &place{t: t, proc: cmd}
	t.Cleanup(p.end)
	p.sh("ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
	return p
}

func (p *place) end() {
	_ = p.proc.Process.Kill()
	_ = p.proc.Wait()
	for _, c := range p.open {
		c.Close()
	}
}

func (p *place) pid() int { return p.proc.Process.Pid }

// in calls f on a thread that is in the place, and ends with f.
func (p *place) in(f func()) {
	p.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open("/proc/"+strconv.Itoa(p.pid())+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
}

// sh executes lines of a shell, and returns what they print.
func (p *place) sh(lines string) (out string) {
	p.t.Helper()
	var err error
	p.in(func() {
		var b []byte
		b, err = exec.Command("sh", "-ec", lines).CombinedOutput()
		out = string(b)
	})
	if err != nil {
		p.t.Fatalf("%s: %v: %s", lines, err, out)
	}
	return out
}

// lab is a host, the world it is connected to, and containers.
type lab struct {
	t     *testing.T
	host  *place
	world *place
	dirs  network.Dirs
	n     int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	dir := t.TempDir()
	l := &lab{t: t, host: newPlace(t), world: newPlace(t), dirs: network.Dirs{Root: dir + "/root", Run: dir + "/run"}}
	if err := os.MkdirAll(filepath.Join(l.dirs.Run, "net/wired"), 0o700); err != nil {
		t.Fatal(err)
	}
	// An address of the link that is looked for elsewhere for a second (accept_dad) would make a difference of before and after.
	l.host.sh(`echo 0 >/proc/sys/net/ipv4/ip_forward
		ip link add eth0 type veth peer name eth0 netns ` + strconv.Itoa(l.world.pid()) + `; echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
		ip address add 192.0.2.1/24 dev eth0; ip address add 2001:db8::1/64 dev eth0 nodad; ip link set eth0 up
		ip route add default via 192.0.2.2; ip route add default via 2001:db8::2`)
	l.world.sh(`ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad; ip link set eth0 up`)
	for _, p := range []*place{l.host, l.world} { // the kernel may take a while to see that the other end is up
		p.sh("until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done")
	}
	return l
}

// left is all that may be changed on the host.
func (l *lab) left() string {
	return l.host.sh(`nft list ruleset; ip -o link | sed 's/.*: \([^:]*\): .*/\1/'; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
		for i in /proc/sys/net/ipv6/conf/*/accept_ra; do echo $i $(cat $i); done; ip address show dev eth0 | grep inet; ip route; ip -6 route`) +
		fmt.Sprint(filepath.Glob(l.dirs.Run+"/net/wired/*"))
}

// idle waits until the host is as it was: bridges stay for a while.
func (l *lab) idle(want string) {
	l.t.Helper()
	var got string
	for range 100 {
		if got = l.left(); got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Errorf("left on the host:\n%s\nand before it was\n%s", got, want)
}

// box is a container.
type box struct {
	*place
	lab  *lab
	doc  *wiring.Document
	peer *os.File // to corten-net
	proc *exec.Cmd
}

func bridge(name string, n int) *wiring.Switch {
	return &wiring.Switch{Name: name, Addresses: []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.200.%d.1/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::1/64", n))}}
}

// link is to a switch that bridge has made, with the number n there.
func link(s *wiring.Switch, n int) wiring.Link {
	at4, at6 := s.Addresses[0].Addr().As4(), s.Addresses[1].Addr().As16()
	at4[3], at6[15] = byte(n), byte(n)
	l := wiring.Link{Network: s.Name, Driver: wiring.Bridge, Interface: "eth0", HostSide: fmt.Sprintf("cv%s%d", s.Name[3:], n),
		MAC: fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", at4[0], at4[1], at4[2], at4[3]), Switch: s,
		Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(at4), 24), netip.PrefixFrom(netip.AddrFrom16(at6), 64)}}
	if !s.Internal {
		l.Gateways = []netip.Addr{s.Addresses[0].Addr(), s.Addresses[1].Addr()}
	}
	return l
}

// publish leads a port of the host to one of the first link.
func publish(l wiring.Link, p spec.Protocol, host string, hostPort, port uint16) wiring.Forward {
	at := netip.MustParseAddr(host)
	to := l.Addresses[0].Addr()
	if at.Is6() {
		to = l.Addresses[1].Addr()
	}
	return wiring.Forward{Service: spec.Service{Protocol: p, Port: port}, HostIP: at, HostPort: hostPort, To: to}
}

func (l *lab) newBox(links ...wiring.Link) *box {
	l.t.Helper()
	l.n++
	ids := []syscall.SysProcIDMap{{HostID: 1 << 20, Size: 1 << 16}}
	apart := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	return &box{place: newPlaceAs(l.t, apart), lab: l,
		doc: &wiring.Document{Version: 1, ID: spec.ContainerID(fmt.Sprintf("%064d", l.n)), Start: strconv.Itoa(l.n), Name: fmt.Sprint("box", l.n), Links: links}}
}

func (b *box) path() string { return filepath.Join(b.lab.dirs.Run, "net/wired", string(b.doc.ID)) }

// write writes the document, as package network does before corten-net starts.
func (b *box) write() {
	b.t.Helper()
	j, err := json.Marshal(b.doc)
	if err == nil {
		err = os.WriteFile(b.path()+".tmp", j, 0o600)
	}
	if err == nil {
		err = os.Rename(b.path()+".tmp", b.path())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// start starts corten-net.
func (b *box) start(mode string) {
	b.t.Helper()
	b.peer, b.proc = b.lab.start(mode, string(b.doc.ID))
}

func (l *lab) start(mode, id string) (*os.File, *exec.Cmd) {
	l.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "peer")
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", mode, l.dirs.Root, l.dirs.Run, id)
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), asProgram+"=1"), []*os.File{theirs}, os.Stderr
	l.host.in(func() { err = cmd.Start() })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_ = unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	peer := os.NewFile(uintptr(fds[0]), "corten-net")
	l.t.Cleanup(func() { peer.Close() })
	return peer, cmd
}

// answer is the next packet of corten-net.
func answer(peer *os.File) (string, []int, error) {
	b, rights := make([]byte, 4096), make([]byte, 256)
	n, m, _, _, err := unix.Recvmsg(int(peer.Fd()), b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return "", nil, err
	}
	var fds []int
	if list, err := unix.ParseSocketControlMessage(rights[:m]); err == nil && len(list) > 0 {
		fds, _ = unix.ParseUnixRights(&list[0])
	}
	return string(b[:n]), fds, nil
}

func want(t *testing.T, peer *os.File) []int {
	t.Helper()
	got, fds, err := answer(peer)
	if err != nil || got != "ok" {
		t.Fatalf("corten-net says %q, %v", got, err)
	}
	return fds
}

// up connects a container that nobody attends to.
func (b *box) up() *box {
	b.t.Helper()
	b.write()
	b.start("up")
	b.tell()
	want(b.t, b.peer)
	b.peer.Close()
	return b
}

// tell says which process the container has.
func (b *box) tell() {
	b.t.Helper()
	if _, err := b.peer.Write([]byte(strconv.Itoa(b.pid()))); err != nil {
		b.t.Fatal(err)
	}
}

// down ends and disconnects it.
func (b *box) down() {
	b.t.Helper()
	b.end()
	b.lab.down(string(b.doc.ID))
}

func (l *lab) down(id string) {
	l.t.Helper()
	peer, _ := l.start("down", id)
	want(l.t, peer)
	peer.Close()
}

// serve answers connections with the address that they come from, and packets of UDP too.
func (p *place) serve(port int) {
	p.t.Helper()
	var l net.Listener
	var c net.PacketConn
	var err error
	p.in(func() {
		l, err = net.Listen("tcp", fmt.Sprint(":", port))
		if err == nil {
			c, err = net.ListenPacket("udp", fmt.Sprint(":", port))
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.open = append(p.open, l, c)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, host(conn.RemoteAddr()))
			conn.Close()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(host(from)), from)
		}
	}()
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return h
}

const (
	soon  = 3 * time.Second        // for what is to succeed
	never = 250 * time.Millisecond // for what is not to
)

// reach connects to an address, and returns as whom.
func (p *place) reach(network, address string, wait time.Duration) (as string, err error) {
	p.t.Helper()
	var c net.Conn
	p.in(func() { c, err = net.DialTimeout(network, address, wait) })
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if strings.HasPrefix(network, "udp") {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b[:n]), nil
}

// sees checks that p reaches an address, and as whom; "" does not matter.
func (p *place) sees(network, address, as string) {
	p.t.Helper()
	begin := time.Now()
	got, err := p.reach(network, address, soon)
	if err != nil || as != "" && got != as {
		p.t.Errorf("%s %s: reached as %q (%v), want %q", network, address, got, err, as)
	}
	// The second try of ARP, ND and TCP is after one second: the first has to succeed.
	if d := time.Since(begin); d > 900*time.Millisecond {
		p.t.Errorf("%s %s: reached after %v", network, address, d)
	}
}

func (p *place) sealed(network, address string) {
	p.t.Helper()
	if got, err := p.reach(network, address, never); err == nil {
		p.t.Errorf("%s %s: reached as %q, and it should not be", network, address, got)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
