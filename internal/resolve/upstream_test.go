package resolve

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// TestPass: what is not ours is passed on as it is, and so is the answer.
func TestPass(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"n"}, Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	numbers := map[uint16]bool{}
	for _, b := range [][]byte{
		query(t, "www.example.", dnsmessage.TypeA),
		query(t, "single.", dnsmessage.TypeAAAA),
		query(t, "WWW.Example.", dnsmessage.TypeMX, takes(4096)),
		query(t, "nobody.nn.", dnsmessage.TypeA),
		query(t, "1.0.0.10.in-addr.arpa.", dnsmessage.TypePTR),
		query(t, "version.bind.", dnsmessage.TypeTXT, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
		append(query(t, "x.example.", dnsmessage.TypeA), "and more"...),
	} {
		w.put(w.client, b)
		asked := up.asked()
		if string(asked[2:]) != string(b[2:]) {
			t.Fatalf("%x was passed on as %x", b, asked)
		}
		numbers[binary.BigEndian.Uint16(asked)] = true
		given := answerTo(t, asked, "192.0.2.1")
		given = append(given, "padding"...)
		up.says(given)
		w.until(w.client)
		same(t, w.get(w.client), given)
	}
	if len(numbers) < 6 || numbers[4711] && numbers[4712] {
		t.Errorf("the numbers are %v", numbers)
	}
}

// TestLies: only the answer to what was asked, from whom it was asked, is one.
func TestLies(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up, other := w.fake("127.0.0.2"), w.fake("127.0.0.3")
	w.put(w.client, query(t, "www.example.", dnsmessage.TypeA))
	asked := up.asked()
	right := answerTo(t, asked, "192.0.2.1")
	wrong := func(i int, c byte) {
		b := append([]byte(nil), right...)
		b[i] ^= c
		up.says(b)
	}
	wrong(0, 1)                // number
	wrong(2, 0x80)             // a question
	wrong(2, 0x08)             // opcode
	wrong(5, 3)                // two questions
	wrong(13, 1)               // name
	wrong(len(asked)-4, 1)     // type
	up.says(right[:20])        // cut
	up.says(nil)               // empty
	up.says(make([]byte, 600)) // nothing
	other.from = up.from
	other.says(answerTo(t, asked, "192.0.2.66"))
	w.settle()
	if n, _, err := unix.Recvfrom(w.client, make([]byte, 512), unix.MSG_DONTWAIT); err == nil {
		t.Fatalf("an answer of %d bytes", n)
	}
	right[13] ^= 0x20 // the case of a letter
	up.says(right)
	w.until(w.client)
	same(t, w.get(w.client), right)
}

// TestNextServer: one that is silent, is not there, or says that it does not know, is followed by
// the next.
func TestNextServer(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2", "::1", "127.0.0.9", "127.0.0.3"}})
	a, b := w.fake("127.0.0.2"), w.fake("::1")
	q := query(t, "www.example.", dnsmessage.TypeA)

	w.put(w.client, q)
	first := a.asked()
	w.later(1900 * time.Millisecond)
	b.quiet()
	w.later(200 * time.Millisecond)
	second := b.asked()
	if string(first[:2]) == string(second[:2]) {
		t.Log("the same number twice, which happens once in 65536")
	}
	a.says(answerTo(t, first, "192.0.2.66")) // too late
	given := answerTo(t, second, "192.0.2.1")
	b.says(given)
	w.until(w.client)
	same(t, w.get(w.client), given)

	// For a while the one that answered is the first.
	w.put(w.client, q)
	given = answerTo(t, b.asked(), "192.0.2.1")
	b.says(given)
	w.until(w.client)
	same(t, w.get(w.client), given)
	a.quiet()
	w.later(31 * time.Second)

	// An unwilling one is asked first the next time, too.
	for range 2 {
		w.put(w.client, q)
		a.says(answerTo(t, a.asked(), "", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }))
		b.says(answerTo(t, b.asked(), "", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }))
		// Nobody is at 127.0.0.9, and it was the third.
		if m := w.answer(); m.RCode != dnsmessage.RCodeServerFailure || m.ID != 4711 {
			t.Fatalf("%+v", m.Header)
		}
	}
	// That there is no such name is an answer.
	w.put(w.client, q)
	a.says(answerTo(t, a.asked(), "", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }))
	if m := w.answer(); m.RCode != dnsmessage.RCodeNameError {
		t.Fatalf("%+v", m.Header)
	}
}

// TestGivesUp: after three tries there is an answer, too.
func TestGivesUp(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	w.put(w.client, query(t, "WWW.example.", dnsmessage.TypeA, takes(1400)))
	for range 3 {
		up.asked()
		w.later(2 * time.Second)
	}
	m := w.answer()
	if m.RCode != dnsmessage.RCodeServerFailure || m.ID != 4711 || m.Questions[0].Name.String() != "WWW.example." || len(m.Additionals) != 1 {
		t.Fatalf("%+v", m)
	}
	if next := w.s.Turn(w.now + 2e9); next != Never || w.s.mem.dirty {
		t.Errorf("it wants to be called at %d, memory %v", next, w.s.mem.dirty)
	}
}

// TestLoss: the only server is asked again before who asks loses patience, and only once; several are not.
func TestLoss(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up, other := w.fake("127.0.0.2"), w.fake("127.0.0.3")
	before := descriptors(t)
	q := query(t, "www.example.", dnsmessage.TypeA)

	w.put(w.client, q)
	first := up.asked()
	w.later(600 * time.Millisecond)
	up.quiet()
	w.later(100 * time.Millisecond)
	if second := up.asked(); string(second) != string(first) {
		t.Fatalf("%x is asked again as %x", first, second)
	}
	given := answerTo(t, first, "192.0.2.1")
	up.says(given)
	w.until(w.client)
	same(t, w.get(w.client), given)
	up.says(given) // of the other datagram
	w.settle()
	if n, _, err := unix.Recvfrom(w.client, make([]byte, 512), unix.MSG_DONTWAIT); err == nil {
		t.Fatalf("a second answer, of %d bytes", n)
	}
	w.later(10 * time.Second)
	up.quiet()

	// A server that is silent is asked three times, and once more.
	w.put(w.client, q)
	for _, d := range []time.Duration{700, 1300, 2000} {
		up.asked()
		w.later((d - 1) * time.Millisecond)
		up.quiet()
		w.later(time.Millisecond)
	}
	up.asked()
	w.later(1999 * time.Millisecond)
	up.quiet()
	w.later(time.Millisecond)
	if m := w.answer(); m.RCode != dnsmessage.RCodeServerFailure {
		t.Fatalf("%+v", m.Header)
	}
	if n := descriptors(t) - before; n != 0 {
		t.Errorf("%d descriptors more than before", n)
	}

	w.s.Order(Config{Upstream: []string{"127.0.0.2", "127.0.0.3"}})
	w.put(w.client, q)
	up.asked()
	w.later(1999 * time.Millisecond)
	up.quiet()
	other.quiet()
	w.later(time.Millisecond)
	given = answerTo(t, other.asked(), "192.0.2.1")
	other.says(given)
	w.until(w.client)
	same(t, w.get(w.client), given)
}

func TestNobodyToAsk(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.11", "nonsense", "127.0.0.300"}})
	if m := w.ask(query(t, "www.example.", dnsmessage.TypeA)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Fatalf("%+v", m.Header)
	}
	fd := w.dial(unix.SOCK_STREAM)
	defer unix.Close(fd)
	w.put(fd, long(query(t, "www.example.", dnsmessage.TypeA)))
	if m := decode(t, w.whole(fd)); m.RCode != dnsmessage.RCodeServerFailure || m.ID != 4711 {
		t.Fatalf("%+v", m.Header)
	}
}

// TestCut: an answer that was cut is handed on, and the rest comes by a connection.
func TestCut(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	q := query(t, "www.example.", dnsmessage.TypeTXT)
	w.put(w.client, q)
	up.says(answerTo(t, up.asked(), "", func(m *dnsmessage.Message) { m.Truncated = true }))
	if m := w.answer(); !m.Truncated {
		t.Fatalf("%+v", m.Header)
	}
	fd := w.dial(unix.SOCK_STREAM)
	defer unix.Close(fd)
	big := func(b []byte) []byte {
		return answerTo(t, b, "", func(m *dnsmessage.Message) {
			for range 200 {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
					Body: &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 250)}}})
			}
		})
	}
	for i := range 2 {
		two := append(long(q), long(q)...) // one after the other, in pieces
		for len(two) > 0 {
			n := min(len(two), 7)
			w.put(fd, two[:n])
			two = two[n:]
			w.settle()
		}
		for range 2 {
			s := up.accept()
			given := big(w.whole(s))
			for b := long(given); len(b) > 0; {
				n := min(len(b), 1+i*5000)
				if i == 0 && len(b) < 50000 {
					n = len(b)
				}
				w.put(s, b[:n])
				b = b[n:]
				w.settle()
			}
			same(t, w.whole(fd), given)
		}
	}
}

// TestConnectionsFail: whatever a server does with a connection, there is an answer.
func TestConnectionsFail(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2", "127.0.0.9", "127.0.0.3"}})
	a, b := w.fake("127.0.0.2"), w.fake("127.0.0.3")
	q := query(t, "www.example.", dnsmessage.TypeTXT)
	fd := w.dial(unix.SOCK_STREAM)
	defer unix.Close(fd)
	for name, does := range map[string]func(s int, asked []byte){
		"closes":            func(s int, _ []byte) { unix.Close(s) },
		"closes on the way": func(s int, q []byte) { w.put(s, long(answerTo(t, q, "192.0.2.1"))[:20]); unix.Close(s) },
		"another answer":    func(s int, _ []byte) { w.put(s, long(query(t, "www.example.", dnsmessage.TypeTXT))) },
		"an empty one":      func(s int, _ []byte) { w.put(s, []byte{0, 0}) },
		"does not know": func(s int, q []byte) {
			w.put(s, long(answerTo(t, q, "", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })))
		},
		"is silent":            func(int, []byte) { w.later(2 * time.Second) },
		"is silent on the way": func(s int, _ []byte) { w.put(s, []byte{0}); w.settle(); w.later(2 * time.Second) },
	} {
		w.put(fd, long(q))
		s := a.accept()
		does(s, w.whole(s))
		s = b.accept() // nobody is at 127.0.0.9
		given := answerTo(t, w.whole(s), "192.0.2.1")
		w.put(s, long(given))
		got := w.whole(fd)
		if len(got) != len(given) {
			t.Fatalf("%s: %x", name, got)
		}
		same(t, got, given)
		w.later(31 * time.Second)
		// That was too long for the connection, which is closed.
		if b := w.get(fd); len(b) != 0 {
			t.Fatalf("%s: %x", name, b)
		}
		unix.Close(fd)
		fd = w.dial(unix.SOCK_STREAM)
	}
}

// TestContainerLeaves closes connections in the middle of everything.
func TestContainerLeaves(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	q := long(query(t, "www.example.", dnsmessage.TypeTXT))
	for _, n := range []int{0, 1, 2, 10} {
		fd := w.dial(unix.SOCK_STREAM)
		w.put(fd, q[:n])
		w.settle()
		unix.Close(fd)
		w.settle()
	}
	reset := w.dial(unix.SOCK_STREAM)
	w.put(reset, q)
	s := up.accept()
	b := w.whole(s)
	w.must(unix.SetsockoptLinger(reset, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	unix.Close(reset)
	w.settle()
	_, _ = unix.Write(s, long(answerTo(t, b, "192.0.2.1")))
	w.settle()
	half := w.dial(unix.SOCK_STREAM)
	defer unix.Close(half)
	w.put(half, q)
	w.must(unix.Shutdown(half, unix.SHUT_WR)) // it still wants its answer
	s = up.accept()
	given := answerTo(t, w.whole(s), "192.0.2.1")
	w.put(s, long(given))
	same(t, w.whole(half), given)
	w.until(half)
	for i := range w.s.conns {
		if c := w.s.conns[i]; c.fd != 0 || c.server != 0 {
			t.Errorf("a connection is left: %+v", c)
		}
	}
}

// TestBounds: a container that asks too much loses its oldest questions, and no more.
func TestBounds(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"n"}, Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	w.name("n", "web", "c", "10.0.0.1")
	before := descriptors(t)
	for i := range 3 * maxAsked {
		q := query(t, "www.example.", dnsmessage.TypeA)
		binary.BigEndian.PutUint16(q, uint16(i))
		w.put(w.client, q)
		up.asked()
	}
	if n := descriptors(t) - before; n != maxAsked {
		t.Errorf("%d descriptors for questions", n)
	}
	for range 3 * maxConns {
		fd := w.dial(unix.SOCK_STREAM)
		defer unix.Close(fd)
		w.settle()
	}
	used := 0
	for i := range w.s.conns {
		if w.s.conns[i].fd != 0 {
			used++
		}
	}
	if used != maxConns {
		t.Errorf("%d connections", used)
	}
	if got := addresses(w.ask(query(t, "web.", dnsmessage.TypeA))); len(got) != 1 {
		t.Error(got)
	}
	for range 3 {
		w.later(10 * time.Second)
	}
	if n := descriptors(t) - before - 3*maxConns; n != 0 {
		t.Errorf("%d descriptors more than before", n)
	}
}

func descriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestHostServers: the host's files are read again when they change.
func TestHostServers(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.fake("127.0.0.2"), w.fake("127.0.0.3")
	stub := w.fake("127.0.0.53")
	host, systemd := w.folder+"/resolv.conf", w.folder+"/systemd.conf"
	q := query(t, "www.example.", dnsmessage.TypeA)
	fails := func() {
		t.Helper()
		if m := w.ask(q); m.RCode != dnsmessage.RCodeServerFailure {
			t.Fatalf("%+v", m.Header)
		}
		w.later(2 * time.Second)
	}
	goes := func(f *fake) {
		t.Helper()
		w.put(w.client, q)
		given := answerTo(t, f.asked(), "192.0.2.1")
		f.says(given)
		w.until(w.client)
		same(t, w.get(w.client), given)
		w.later(2 * time.Second)
	}
	fails()
	w.must(os.WriteFile(host, []byte("# nameserver 127.0.0.3\nsearch a\nnameserver\t127.0.0.2 # first\nnameserver 127.0.0.11\n nameserver fe80::1%lo"), 0o600))
	goes(a)
	if len(w.s.servers.list) != 2 || w.s.servers.list[1].at.(*unix.SockaddrInet6).ZoneId != 1 {
		t.Errorf("%+v", w.s.servers.list)
	}
	w.must(os.WriteFile(host, []byte("nameserver 127.0.0.3\n"), 0o600))
	goes(b)
	w.must(os.WriteFile(systemd, []byte("nameserver 127.0.0.2\n"), 0o600))
	goes(b)
	w.must(os.WriteFile(host, []byte("nameserver 127.0.0.53\noptions edns0\n"), 0o600))
	goes(stub)
	w.put(w.client, q)
	stub.asked()
	w.later(2 * time.Second) // systemd's server is stopped
	given := answerTo(t, a.asked(), "192.0.2.1")
	a.says(given)
	w.until(w.client)
	same(t, w.get(w.client), given)
	w.must(os.Remove(host))
	w.later(2 * time.Second)
	fails()
}
