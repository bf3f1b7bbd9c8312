package resolve

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// FuzzMessage: no message of a container or a server does harm, and one that others can read is
// read as they do.
func FuzzMessage(f *testing.F) {
	dir := f.TempDir()
	w := &world{t: f, folder: dir}
	w.name("n", "web", "c1", "10.0.0.1 fd00::1")
	w.at("n", "10.0.0.1", "c1 web")
	asked := query(f, "www.example.", dnsmessage.TypeA)
	for _, b := range [][]byte{
		asked, query(f, "WEB.", dnsmessage.TypeA), query(f, "web.n.", dnsmessage.TypeAAAA, takes(700)), query(f, "1.0.0.10.in-addr.arpa.", dnsmessage.TypePTR),
		query(f, ".", dnsmessage.TypeNS), answerTo(f, asked, "192.0.2.1"), asked[:13], append(asked[:12:12], 0xc0, 12, 0, 1, 0, 1),
		query(f, strings.Repeat("0.", 32)+"ip6.arpa.", dnsmessage.TypePTR),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Server
		s.Order(Config{Folder: dir, Networks: []string{"n"}, Alone: true})
		for _, long := range []bool{false, true} {
			out, v := s.local(make([]byte, 0, bufferSize), b, long)
			if v == nothing {
				continue
			}
			var p dnsmessage.Parser
			if _, err := p.Start(out); err != nil {
				t.Fatalf("%x is answered by %x: %v", b, out, err)
			}
			var m dnsmessage.Message
			if err := m.Unpack(out); err != nil && s.question.plain {
				t.Fatalf("%x is answered by %x: %v", b, out, err)
			}
			if s.question.parse(b) == noError {
				answers(out, b, s.question.id)
			}
		}
		answers(b, asked, 4711)
		var m dnsmessage.Message
		var q question
		if m.Unpack(b) != nil || m.Response || m.OpCode != 0 || len(m.Questions) != 1 || q.parse(b) != noError {
			return
		}
		name := m.Questions[0].Name.String()
		if got := string(q.name[:q.length]) + "."; name != "." && q.plain && got != strings.ToLower(name) || q.kind != uint16(m.Questions[0].Type) || q.class != uint16(m.Questions[0].Class) {
			t.Errorf("%x asks for %q %d, dnsmessage says %v", b, got, q.kind, m.Questions[0])
		}
	})
}

// TestNoGarbage: answering leaves nothing to collect.
func TestNoGarbage(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"a", "n"}, Upstream: []string{"127.0.0.2"}})
	w.name("n", "web", "c1", "10.0.0.1 fd00::1")
	w.name("n", "web", "c2", "10.0.0.2 fd00::1")
	w.at("n", "10.0.0.1", "c1 web")
	up := w.fake("127.0.0.2")
	b := make([]byte, 512)
	tcp := w.dial(unix.SOCK_STREAM)
	defer unix.Close(tcp)
	clean := func(what string, ask func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, ask); n != 0 {
			t.Errorf("%s: %v pieces of garbage for each", what, n)
		}
	}
	poll := []unix.PollFd{{Fd: int32(w.s.FD()), Events: unix.POLLIN}}
	turn := func() {
		_, _ = unix.Poll(poll, -1)
		w.s.Turn(w.now)
	}
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
	}{{"web.", dnsmessage.TypeA}, {"web.n.", dnsmessage.TypeAAAA}, {"1.0.0.10.in-addr.arpa.", dnsmessage.TypePTR}} {
		q := query(t, c.name, c.kind)
		clean(c.name, func() {
			_, _ = unix.Write(w.client, q)
			turn()
			_, _ = unix.Read(w.client, b)
		})
		q = long(q)
		clean(c.name+" by a connection", func() {
			_, _ = unix.Write(tcp, q)
			turn()
			_, _ = unix.Read(tcp, b)
		})
	}
	q := query(t, "www.example.", dnsmessage.TypeA)
	answer := answerTo(t, q, "192.0.2.1")
	var from unix.SockaddrInet4
	clean("passed on", func() {
		_, _ = unix.Write(w.client, q)
		turn()
		n, _ := kernel.ReceiveFrom(up.udp, b, &from)
		copy(answer, b[:min(n, 2)])
		_ = unix.Sendto(up.udp, answer, 0, &from)
		turn()
		_, _ = unix.Read(w.client, b)
	})
	w.s.servers.given = false
	clean("looking at the host's files", func() {
		w.s.servers.due = 0
		w.s.servers.look(w.now, w.s.mem.out)
	})
}

// apartOf is a descriptor of a network that a test is not in.
func apartOf(t *testing.T) int {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	type result struct {
		ns  int
		err error
	}
	made, done := make(chan result), make(chan bool)
	go func() {
		runtime.LockOSThread() // it ends with its thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		ns := -1
		if err == nil {
			up(t, "lo")
			ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- result{ns, err}
		<-done
	}()
	r := <-made
	t.Cleanup(func() { close(done) })
	if r.err != nil {
		t.Skip("no network namespace: ", r.err)
	}
	t.Cleanup(func() { unix.Close(r.ns) })
	return r.ns
}

// TestPlace gives sockets their numbers, whatever they had, and takes those that have them.
func TestPlace(t *testing.T) {
	ns := apartOf(t)
	inodes := func(a, b int) (out [2]uint64) {
		for i, fd := range []int{a, b} {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			out[i] = st.Ino
		}
		return out
	}
	free := func(from int) int {
		fd, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, from)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		return fd
	}
	for _, numbers := range [][2]int{{200, 201}, {free(0), 201}, {200, free(0)}, {free(free(0) + 1), free(0)}} {
		a, b := numbers[0], numbers[1]
		before := descriptors(t)
		if err := Place(ns, testPort, a, b); err != nil || !Listening(a, b, testPort) {
			t.Fatal(numbers, err)
		}
		first := inodes(a, b)
		if err := Place(ns, testPort, a, b); err != nil || inodes(a, b) != first {
			t.Errorf("%v: %v, or other sockets", numbers, err)
		}
		if n := descriptors(t) - before; n != 2 {
			t.Errorf("%v: %d descriptors more", numbers, n)
		}
		if err := Place(ns, testPort, a+20, b+20); err == nil {
			t.Errorf("%v: a port that is taken was placed", numbers)
		}
		inodes(a+20, b+20)
		unix.Close(a)
		unix.Close(b)
		if err := Place(ns, testPort, a+20, b+20); err != nil || !Listening(a+20, b+20, testPort) {
			t.Errorf("%v: a port that is free again: %v", numbers, err)
		}
		unix.Close(a + 20)
		unix.Close(b + 20)
	}
}

// TestListenIn makes the sockets of a process in another network.
func TestListenIn(t *testing.T) {
	ns := apartOf(t)
	before, _ := os.Readlink("/proc/thread-self/ns/net")
	udp, tcp, err := ListenIn(ns, testPort)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	defer unix.Close(tcp)
	if after, _ := os.Readlink("/proc/thread-self/ns/net"); after != before {
		t.Errorf("this thread was in %s and is in %s", before, after)
	}
	if ourselves(udp) {
		t.Error("the sockets are in our own network")
	}
	for _, c := range []struct {
		udp, tcp int
		port     uint16
		want     bool
	}{{udp, tcp, testPort, true}, {udp, tcp, testPort + 1, false}, {tcp, udp, testPort, false}, {udp, udp, testPort, false}, {tcp, tcp, testPort, false}, {ns, tcp, testPort, false}, {-1, -1, testPort, false}} {
		if got := Listening(c.udp, c.tcp, c.port); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if a, b, err := ListenIn(ns, testPort); err == nil {
		unix.Close(a)
		unix.Close(b)
		t.Error("a port can be listened at twice")
	}
	unix.Close(udp)
	unix.Close(tcp)
	again, tcp, err := ListenIn(ns, testPort)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if _, _, err := ListenIn(tcp, testPort); err == nil {
		t.Error("a socket was entered")
	}
}

// TestDig asks with BIND's client, which looks at everything.
func TestDig(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("no dig")
	}
	w := newWorld(t, Config{Networks: []string{"n"}, Upstream: []string{"127.0.0.2"}, Alone: true})
	for i := range 100 {
		w.name("n", "many", "c"+string(rune('A'+i)), "10.0.0.1 fd00::1")
	}
	w.name("n", "web", "c1", "10.0.0.1 fd00::1")
	w.at("n", "10.0.0.1", "c1 web")
	for _, c := range []struct{ args, want string }{
		{"web A", "10.0.0.1"},
		{"web.n AAAA +tcp", "fd00::1"},
		{"web AAAA +noedns", "fd00::1"},
		{"-x 10.0.0.1", "web.n."},
		{"web MX", ""},
		{"web.n A +tcp +keepopen web AAAA", "10.0.0.1\nfd00::1"},
		{"many A +bufsize=512", strings.TrimSpace(strings.Repeat("10.0.0.1\n", 100))},
	} {
		args := append([]string{"@127.0.0.11", "-p", "5311", "+short", "+time=5", "+tries=1", "+nocookie"}, strings.Fields(c.args)...)
		cmd := exec.Command("dig", args...)
		rd, wr, err := os.Pipe()
		w.must(err)
		var out, errOut strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errOut
		cmd.ExtraFiles = []*os.File{wr}
		w.must(cmd.Start()) // from this thread, so in its network
		wr.Close()
		w.until(int(rd.Fd()))
		rd.Close()
		err = cmd.Wait()
		if got := strings.TrimSpace(out.String()); err != nil || got != c.want || errOut.Len() > 0 {
			t.Errorf("dig %s: %v %s\n%s\nwant\n%s", c.args, err, errOut.String(), got, c.want)
		}
	}
}

// BenchmarkLocal is how fast one server answers, with its asker in the same thread.
func BenchmarkLocal(b *testing.B) {
	w := newWorld(b, Config{Networks: []string{"other", "n"}})
	w.name("n", "web", "c1", "10.0.0.1 fd00::1")
	w.must(os.MkdirAll(filepath.Join(w.folder, "on", "other", "names"), 0o700))
	q, answer := query(b, "web.", dnsmessage.TypeA), make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = unix.Write(w.client, q)
		w.s.Turn(w.now)
		_, _ = unix.Read(w.client, answer)
	}
}

// BenchmarkPass is how fast one server passes on, with its asker and the server that it asks in the
// same thread.
func BenchmarkPass(b *testing.B) {
	w := newWorld(b, Config{Networks: []string{"n"}, Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	q := query(b, "www.example.", dnsmessage.TypeA)
	answer, got := answerTo(b, q, "192.0.2.1"), make([]byte, 512)
	var from unix.SockaddrInet4
	b.ReportAllocs()
	for b.Loop() {
		_, _ = unix.Write(w.client, q)
		w.s.Turn(w.now)
		_, _ = kernel.ReceiveFrom(up.udp, got, &from)
		copy(answer, got[:2])
		_ = unix.Sendto(up.udp, answer, 0, &from)
		w.s.Turn(w.now)
		_, _ = unix.Read(w.client, got)
	}
}
