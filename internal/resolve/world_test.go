package resolve

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const testPort = 5311

// world is a server in a network of its own, where its servers are too, and all in one thread: time
// passes only when a test says so.
type world struct {
	t      testing.TB
	s      *Server
	now    int64
	folder string
	client int // a socket that is connected with the server
}

func newWorld(t testing.TB, c Config) *world {
	t.Helper()
	apart(t)
	udp, tcp, err := Listen(testPort)
	w := &world{t: t, now: 1e9, folder: t.TempDir()}
	w.must(err)
	c.Folder = w.folder
	w.s, err = New(c, udp, tcp)
	w.must(err)
	w.s.servers.paths = [2][]byte{[]byte(w.folder + "/resolv.conf\x00"), []byte(w.folder + "/systemd.conf\x00")}
	w.client = w.dial(unix.SOCK_DGRAM)
	t.Cleanup(func() {
		w.s.Close()
		for _, fd := range []int{udp, tcp, w.client} {
			unix.Close(fd)
		}
	})
	return w
}

// apart gives the test a thread with a network of its own, which ends with it.
func apart(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
	up(t, "lo")
}

// up sets an interface up.
func up(t testing.TB, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) dial(kind int) int {
	w.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	w.must(err)
	w.must(unix.Connect(fd, &unix.SockaddrInet4{Addr: address, Port: testPort}))
	return fd
}

// name puts a container on a network.
func (w *world) name(network, name, id, addresses string) {
	w.t.Helper()
	dir := filepath.Join(w.folder, "on", network, "names", name)
	w.must(os.MkdirAll(dir, 0o700))
	w.must(os.Symlink(addresses, filepath.Join(dir, id)))
}

// at gives an address to a container.
func (w *world) at(network, address, owner string) {
	w.t.Helper()
	dir := filepath.Join(w.folder, "on", network, "at")
	w.must(os.MkdirAll(dir, 0o700))
	w.must(os.Symlink(owner, filepath.Join(dir, address)))
}

// until lets the server work until one of the descriptors can be read from.
func (w *world) until(fds ...int) {
	w.t.Helper()
	list := []unix.PollFd{{Fd: int32(w.s.FD()), Events: unix.POLLIN}}
	for _, fd := range fds {
		list = append(list, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		_, err := unix.Poll(list, 1000)
		if err != nil && err != unix.EINTR {
			w.t.Fatal(err)
		}
		if list[0].Revents != 0 {
			w.s.Turn(w.now)
		}
		for _, l := range list[1:] {
			if l.Revents != 0 {
				return
			}
		}
	}
	w.t.Fatal("nothing comes")
}

// settle lets the server do all there is to do.
func (w *world) settle() {
	list := []unix.PollFd{{Fd: int32(w.s.FD()), Events: unix.POLLIN}}
	for {
		w.s.Turn(w.now)
		if n, _ := unix.Poll(list, 0); n == 0 {
			return
		}
	}
}

// later lets time pass.
func (w *world) later(d time.Duration) {
	w.now += int64(d)
	w.s.Turn(w.now)
}

// query makes a question.
func query(t testing.TB, name string, kind dnsmessage.Type, change ...func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true}}
	m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}
	for _, f := range change {
		f(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// takes has a question say how much its asker takes.
func takes(n int) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(n, dnsmessage.RCodeSuccess, true)
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie!!")}}}})
	}
}

func decode(t testing.TB, b []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return m
}

// ask asks by a datagram.
func (w *world) ask(b []byte) dnsmessage.Message {
	w.t.Helper()
	w.put(w.client, b)
	return w.answer()
}

func (w *world) answer() dnsmessage.Message {
	w.t.Helper()
	w.until(w.client)
	return decode(w.t, w.get(w.client))
}

func (w *world) put(fd int, b []byte) {
	w.t.Helper()
	_, err := unix.Write(fd, b)
	w.must(err)
}

func (w *world) get(fd int) []byte {
	w.t.Helper()
	b := make([]byte, 1<<16)
	n, err := unix.Read(fd, b)
	w.must(err)
	return b[:n]
}

// addresses are those of an answer.
func addresses(m dnsmessage.Message) (out []string) {
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			out = append(out, b.PTR.String())
		}
	}
	return out
}

// long puts its length before a message.
func long(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// whole reads a message after its length.
func (w *world) whole(fd int) []byte {
	w.t.Helper()
	var b []byte
	for len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
		w.until(fd)
		more := w.get(fd)
		if len(more) == 0 {
			w.t.Fatalf("the connection ends after %d bytes", len(b))
		}
		b = append(b, more...)
	}
	return b[2:]
}

// fake is a server that is asked.
type fake struct {
	w        *world
	udp, tcp int
	from     unix.Sockaddr
}

func (w *world) fake(ip string) *fake {
	w.t.Helper()
	a := netip.MustParseAddr(ip)
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.As16(), Port: 53})
	if a.Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: a.As4(), Port: 53}
	}
	var err error
	f := &fake{w: w}
	f.udp, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	w.must(err)
	w.must(unix.Bind(f.udp, at))
	f.tcp, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	w.must(err)
	w.must(unix.SetsockoptInt(f.tcp, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	w.must(unix.Bind(f.tcp, at))
	w.must(unix.Listen(f.tcp, 64))
	w.t.Cleanup(func() { unix.Close(f.udp); unix.Close(f.tcp) })
	return f
}

// asked waits for a question.
func (f *fake) asked() []byte {
	f.w.t.Helper()
	f.w.until(f.udp)
	b := make([]byte, 1<<16)
	n, from, err := unix.Recvfrom(f.udp, b, 0)
	f.w.must(err)
	f.from = from
	return b[:n]
}

// quiet fails if there was a question.
func (f *fake) quiet() {
	f.w.t.Helper()
	f.w.settle()
	if n, _, err := unix.Recvfrom(f.udp, make([]byte, 512), unix.MSG_DONTWAIT); err == nil {
		f.w.t.Fatalf("a server was asked, with %d bytes", n)
	}
}

func (f *fake) says(b []byte) {
	f.w.t.Helper()
	f.w.must(unix.Sendto(f.udp, b, 0, f.from))
}

// accept waits for a connection.
func (f *fake) accept() int {
	f.w.t.Helper()
	f.w.until(f.tcp)
	fd, _, err := unix.Accept(f.tcp)
	f.w.must(err)
	f.w.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// answerTo is what a server says to a question.
func answerTo(t testing.TB, b []byte, ip string, change ...func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := decode(t, b)
	m.Response, m.RecursionAvailable = true, true
	if ip != "" {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body: &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()}}}
	}
	for _, f := range change {
		f(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same fails unless an answer is one that a server has given, but for its number.
func same(t testing.TB, got, given []byte) {
	t.Helper()
	if !bytes.Equal(got[2:], given[2:]) {
		t.Fatalf("%x came, and the server said %x", got, given)
	}
	if id := binary.BigEndian.Uint16(got); id != 4711 {
		t.Fatalf("the answer has the number %d", id)
	}
}
