package keeper

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/resolve"
)

const namesPort = 5377

// cortenNet writes down what it was called for.
func cortenNet() {
	f, err := os.OpenFile(filepath.Join(os.Args[3], "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(1)
	}
	_, _ = f.WriteString(strings.Join(os.Args, " ") + "\n")
	os.Exit(0)
}

// connected begins a container with a network of its own, on a network n with a container web.
func (w *world) connected() {
	w.t.Helper()
	for _, program := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(program); err != nil || os.Getuid() != 0 {
			w.t.Skip("not root, or no ", program)
		}
	}
	w.orders.Resolver = ResolverOrders{Port: namesPort, Networks: []string{"n"}, Alone: true}
	dir := filepath.Join(w.run, "net/on/n/names/web")
	w.must(os.MkdirAll(dir, 0o700), os.Symlink("10.0.0.7", filepath.Join(dir, "c9")))
	w.begin("unshare", "-n", "sh", "-c", "ip link set lo up && exec sleep 1000")
	w.until("the container has a network", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(w.orders.PID) + "/comm")
		return string(b) == "sleep\n"
	})
}

// within calls f in a thread that is in the container's network.
func (w *world) within(f func() error) {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and the thread ends with this
		ns, err := unix.Open("/proc/"+itoa(w.orders.PID)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
			unix.Close(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	w.must(<-done)
}

// dial connects with the container's server of names.
func (w *world) dial(network string) (c net.Conn) {
	w.t.Helper()
	w.within(func() (err error) {
		c, err = net.Dial(network, net.JoinHostPort("127.0.0.11", itoa(namesPort)))
		return err
	})
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) question(name string) []byte {
	w.t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	q, err := m.Pack()
	w.must(err)
	return q
}

// resolves asks for web until somebody answers.
func (w *world) resolves(network string, want dnsmessage.RCode) {
	w.t.Helper()
	c, q, off := w.dial(network), w.question("web."), 0
	var m dnsmessage.Message
	if network == "tcp" {
		q, off = append([]byte{0, byte(len(q))}, q...), 2
	}
	w.until("it answers", func() bool {
		b := make([]byte, 512)
		w.must(c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)))
		if _, err := c.Write(q); err != nil {
			return false
		}
		n, err := c.Read(b)
		if err != nil || m.Unpack(b[off:n]) != nil {
			return false
		}
		return m.RCode == want && (want != dnsmessage.RCodeSuccess || m.Answers[0].Body.(*dnsmessage.AResource).A == [4]byte{10, 0, 0, 7})
	})
}

// socket is what a descriptor of the keeper is.
func (w *world) socket(fd int) string {
	s, _ := os.Readlink("/proc/" + itoa(w.keeper.Process.Pid) + "/fd/" + itoa(fd))
	return s
}

// Names are answered by keepers that adopt, that follow other orders, and that execute themselves
// anew, at the same port.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.connected()
	for range 3 {
		w.keep()
		w.resolves("udp", dnsmessage.RCodeSuccess)
		w.resolves("tcp", dnsmessage.RCodeSuccess)
		w.kill()
	}
	w.keep()
	w.resolves("udp", dnsmessage.RCodeSuccess)
	w.until("the keeper catches signals", w.catches)
	before := w.socket(udpFD) + w.socket(tcpFD)
	for range 3 {
		w.must(w.keeper.Process.Signal(unix.SIGHUP))
		w.until("another program starts", func() bool { return !w.catches() || rand.IntN(20) == 0 })
		w.resolves("udp", dnsmessage.RCodeSuccess)
		w.resolves("tcp", dnsmessage.RCodeSuccess)
		w.until("the keeper catches signals", w.catches)
	}
	if after := w.socket(udpFD) + w.socket(tcpFD); before != after || !strings.HasPrefix(after, "socket:") {
		t.Errorf("the sockets were %s and are %s", before, after)
	}
	w.orders.Resolver.Networks = nil
	w.must(w.orders.Write(w.folder), w.keeper.Process.Signal(unix.SIGUSR2))
	w.resolves("udp", dnsmessage.RCodeNameError)
	w.must(w.command.Process.Kill())
	_ = w.command.Wait()
	w.finish()
}

// A keeper that waits for an answer executes itself anew when that is there.
func TestNamesUpgrade(t *testing.T) {
	w := newWorld(t)
	w.connected()
	w.orders.Resolver.Alone, w.orders.Resolver.Upstream = false, []string{"127.0.0.2"}
	w.must(w.orders.Write(w.folder))
	var server net.PacketConn
	w.apart(func() {
		w.must(exec.Command("ip", "link", "set", "lo", "up").Run())
		var err error
		server, err = net.ListenPacket("udp", "127.0.0.2:53")
		w.must(err)
		w.keep()
	})
	defer server.Close()
	w.resolves("udp", dnsmessage.RCodeSuccess)
	w.until("the keeper catches signals", w.catches)
	c, b := w.dial("udp"), make([]byte, 512)
	_, err := c.Write(w.question("www.example."))
	w.must(err)
	n, from, err := server.ReadFrom(b)
	w.must(err, w.keeper.Process.Signal(unix.SIGHUP))
	time.Sleep(50 * time.Millisecond) // there is nothing to see when it has the signal
	b[2] |= 0x80
	_, err = server.WriteTo(b[:n], from)
	w.must(err, c.SetReadDeadline(time.Now().Add(90*time.Second)))
	_, err = c.Read(b)
	w.must(err)
	w.resolves("tcp", dnsmessage.RCodeSuccess)
}

// Sockets that are passed are used, and what is something else is not.
func TestNamesPassed(t *testing.T) {
	w := newWorld(t)
	w.connected()
	var udp, tcp int
	w.within(func() (err error) {
		udp, tcp, err = resolve.Listen(namesPort)
		return err
	})
	files := []*os.File{os.NewFile(uintptr(udp), "udp"), os.NewFile(uintptr(tcp), "tcp")}
	defer files[0].Close()
	defer files[1].Close()
	want, _ := os.Readlink("/proc/self/fd/" + itoa(udp))
	pass := func(files ...*os.File) {
		w.keeper = w.program()
		w.keeper.ExtraFiles = append(append(w.keeper.ExtraFiles, make([]*os.File, notifyFD-lockFD)...), files...)
		w.must(w.keeper.Start())
	}
	pass(files...)
	w.resolves("udp", dnsmessage.RCodeSuccess)
	if got := w.socket(udpFD); got != want {
		t.Errorf("the socket is %s, and %s was passed", got, want)
	}
	w.kill()
	w.must(files[0].Close(), files[1].Close())
	null, err := os.Open("/dev/null")
	w.must(err)
	defer null.Close()
	pass(null, null)
	w.resolves("udp", dnsmessage.RCodeSuccess)
}

// Rules that are gone are made again, and a port that the container had taken is listened at when
// it is free.
func TestLooks(t *testing.T) {
	if testing.Short() {
		t.Skip("a keeper looks every ten seconds")
	}
	w := newWorld(t)
	w.connected()
	exe, err := os.Executable()
	w.must(err)
	w.orders.Net = filepath.Join(filepath.Dir(w.root), "corten-net")
	w.must(os.Symlink(exe, w.orders.Net), w.orders.Write(w.folder))
	var taken [2]int
	w.within(func() (err error) {
		taken[0], taken[1], err = resolve.Listen(namesPort)
		return err
	})
	w.apart(w.keep) // there are no rules
	w.until("the rules are made again", func() bool { return w.calls() == "corten-net restore "+w.root+" "+w.run+"\n" })
	w.must(unix.Close(taken[0]), unix.Close(taken[1]))
	w.resolves("udp", dnsmessage.RCodeSuccess)
	if got := w.socket(udpFD); !strings.HasPrefix(got, "socket:") {
		t.Errorf("descriptor %d is %s", udpFD, got)
	}
}

// apart calls f in a thread with a network of its own.
func (w *world) apart(f func()) {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	w.must(<-done)
}
