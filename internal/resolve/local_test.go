package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func TestLocal(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"Front", "back"}, Alone: true})
	w.name("Front", "web", "c1", "10.1.0.2 fd00::2")
	w.name("Front", "four", "c2", "10.1.0.3")
	w.name("back", "four", "c2", "10.2.0.3 fd01::3")
	w.name("back", "six", "c3", "fd01::4")
	w.name("back", "web", "c4", "10.2.0.9")
	w.name("back", "db.example", "c5", " fd01::5")
	w.name("back", "four.front", "c6", "10.2.0.66")
	w.name("other", "far", "c7", "10.3.0.1")
	w.at("Front", "10.1.0.2", "c1 Web")
	w.at("back", "fd01::4", "c3 six")
	w.at("other", "10.3.0.1", "c7 far")
	const ok, no = dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError
	six := "4." + strings.Repeat("0.", 27) + "1.0.d.f.ip6.arpa."
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		code dnsmessage.RCode
		want string
	}{
		{"web.", dnsmessage.TypeA, ok, "10.1.0.2"}, // the first network's
		{"WEB.", dnsmessage.TypeA, ok, "10.1.0.2"},
		{"web.", dnsmessage.TypeAAAA, ok, "fd00::2"},
		{"web.", dnsmessage.TypeMX, ok, ""},
		{"web.", dnsmessage.TypeALL, ok, ""},
		{"web.back.", dnsmessage.TypeA, ok, "10.2.0.9"},
		{"web.back.", dnsmessage.TypeAAAA, ok, ""},
		{"web.front.", dnsmessage.TypeA, ok, "10.1.0.2"},
		{"four.", dnsmessage.TypeAAAA, ok, "fd01::3"},
		{"four.", dnsmessage.TypeA, ok, "10.1.0.3"},
		{"four.Front.", dnsmessage.TypeA, ok, "10.2.0.66"}, // a name that has a dot itself
		{"six.", dnsmessage.TypeA, ok, ""},
		{"six.", dnsmessage.TypeAAAA, ok, "fd01::4"},
		{"db.example.", dnsmessage.TypeAAAA, ok, "fd01::5"},
		{"db.example.back.", dnsmessage.TypeAAAA, ok, "fd01::5"},
		{"nobody.back.", dnsmessage.TypeA, no, ""},
		{"far.", dnsmessage.TypeA, no, ""},
		{"web.example.", dnsmessage.TypeA, no, ""},
		{".", dnsmessage.TypeNS, no, ""},

		{"2.0.1.10.in-addr.arpa.", dnsmessage.TypePTR, ok, "Web.Front."},
		{"2.0.1.10.in-addr.arpa.", dnsmessage.TypeA, ok, ""},
		{"1.0.3.10.in-addr.arpa.", dnsmessage.TypePTR, no, ""},
		{six, dnsmessage.TypePTR, ok, "six.back."},
	} {
		m := w.ask(query(t, c.name, c.kind))
		if got := strings.Join(addresses(m), " "); m.RCode != c.code || got != c.want {
			t.Errorf("%s %s: %v %q, want %v %q", c.name, c.kind, m.RCode, got, c.code, c.want)
		}
		if !m.Response || m.ID != 4711 || !m.RecursionAvailable || !m.RecursionDesired || !m.Authoritative || len(m.Additionals) != 0 {
			t.Errorf("%s %s: header %+v, %d more", c.name, c.kind, m.Header, len(m.Additionals))
		}
		if got := m.Questions[0].Name.String(); got != c.name {
			t.Errorf("%s was asked, and the answer says %s", c.name, got)
		}
		for _, a := range m.Answers {
			if a.Header.TTL != ttl || a.Header.Name.String() != c.name {
				t.Errorf("%s: %+v", c.name, a.Header)
			}
		}
	}
}

// TestLocalChanges: nothing is remembered.
func TestLocalChanges(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"n"}, Alone: true})
	for i := range 5 {
		ip := "10.0.0." + strconv.Itoa(i+1)
		w.name("n", "web", "c", ip)
		if got := addresses(w.ask(query(t, "web.", dnsmessage.TypeA))); !slices.Equal(got, []string{ip}) {
			t.Fatalf("%v, want %s", got, ip)
		}
		w.must(unix.Unlink(w.folder + "/on/n/names/web/c"))
		if m := w.ask(query(t, "web.", dnsmessage.TypeA)); m.RCode != dnsmessage.RCodeNameError {
			t.Fatalf("gone: %v", m.RCode)
		}
	}
}

func TestRotation(t *testing.T) {
	w := newWorld(t, Config{Networks: []string{"n"}})
	firsts := map[string]bool{}
	for i := range 3 {
		w.name("n", "web", "c"+strconv.Itoa(i), fmt.Sprintf("10.0.0.%d fd00::%d", i+1, i+1))
	}
	for range 3 {
		got := addresses(w.ask(query(t, "web.", dnsmessage.TypeA)))
		firsts[got[0]] = true
		slices.Sort(got)
		if !slices.Equal(got, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
			t.Fatal(got)
		}
	}
	if len(firsts) != 3 {
		t.Errorf("the first ones are %v", firsts)
	}
}

// TestSizes asks for more than a datagram holds.
func TestSizes(t *testing.T) {
	const n = 400
	w := newWorld(t, Config{Networks: []string{"n"}})
	for i := range n {
		w.name("n", "web", "container-with-a-long-name-"+strconv.Itoa(i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
	}
	for _, c := range []struct{ says, most, least int }{{0, 512, 480}, {100, 512, 480}, {1232, 1232, 1200}, {65000, 4096, 4060}} {
		var change []func(*dnsmessage.Message)
		if c.says > 0 {
			change = append(change, takes(c.says))
		}
		w.put(w.client, query(t, "web.", dnsmessage.TypeA, change...))
		w.until(w.client)
		b := w.get(w.client)
		m := decode(t, b)
		if len(b) > c.most || len(b) < c.least || !m.Truncated {
			t.Errorf("%d bytes for who takes %d, cut %v", len(b), c.says, m.Truncated)
		}
		if c.says == 0 {
			continue
		}
		if len(m.Additionals) != 1 || m.Additionals[0].Header.Type != dnsmessage.TypeOPT || m.Additionals[0].Header.Class != largest || !m.Additionals[0].Header.DNSSECAllowed() {
			t.Errorf("OPT: %+v", m.Additionals)
		}
	}
	fd := w.dial(unix.SOCK_STREAM)
	defer unix.Close(fd)
	for range 3 {
		w.put(fd, long(query(t, "web.", dnsmessage.TypeA)))
		m := decode(t, w.whole(fd))
		if got := addresses(m); len(got) != n || m.Truncated {
			t.Errorf("%d addresses by a connection, cut %v", len(got), m.Truncated)
		}
	}
}

// TestNonsense: what is answered to what is no question, and that nothing is passed on.
func TestNonsense(t *testing.T) {
	w := newWorld(t, Config{Upstream: []string{"127.0.0.2"}})
	up := w.fake("127.0.0.2")
	good := query(t, "a.example.", dnsmessage.TypeA)
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	for name, c := range map[string]struct {
		b    []byte
		code int // -1: no answer
	}{
		"short":          {good[:11], -1},
		"an answer":      {edit(func(b []byte) []byte { b[2] |= 0x80; return b }), -1},
		"opcode":         {edit(func(b []byte) []byte { b[2] |= 0x28; return b }), notImplemented},
		"two":            {edit(func(b []byte) []byte { b[5] = 2; return b }), formatError},
		"none":           {edit(func(b []byte) []byte { b[5] = 0; return b }), formatError},
		"cut":            {good[:len(good)-1], formatError},
		"cut name":       {good[:15], formatError},
		"pointer":        {edit(func(b []byte) []byte { b[12] = 0xc0; return b }), formatError},
		"record":         {edit(func(b []byte) []byte { b[11] = 1; return b }), formatError},
		"two OPTs":       {query(t, "a.", dnsmessage.TypeA, takes(512), takes(512)), formatError},
		"version":        {query(t, "a.", dnsmessage.TypeA, takes(512), func(m *dnsmessage.Message) { m.Additionals[0].Header.TTL |= 1 << 16 }), badVersion},
		"many records":   {edit(func(b []byte) []byte { b[6], b[7], b[8], b[9] = 0xff, 0xff, 0xff, 0xff; return b }), formatError},
		"a long name":    {longName(63, 63, 63, 62), formatError},
		"a long message": {append(slices.Clone(good), make([]byte, 5000)...), formatError},
	} {
		w.put(w.client, c.b)
		w.settle()
		b := make([]byte, 512)
		n, _, err := unix.Recvfrom(w.client, b, unix.MSG_DONTWAIT)
		if c.code < 0 {
			if err == nil {
				t.Errorf("%s: %d bytes of answer", name, n)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := decode(t, b[:n])
		if got := int(m.RCode); got != c.code&15 || m.ID != 4711 {
			t.Errorf("%s: %v", name, m.Header)
		}
		if c.code == badVersion && m.Additionals[0].Header.ExtendedRCode(m.RCode) != badVersion {
			t.Errorf("%s: %+v", name, m.Additionals[0].Header)
		}
	}
	up.quiet()
	w.put(w.client, longName(63, 63, 63, 61)) // the longest that there is
	if n := len(up.asked()); n != headerLen+255+4 {
		t.Errorf("a question of %d bytes is passed on", n)
	}
}

// longName asks for a name with labels of such lengths.
func longName(labels ...int) []byte {
	b := []byte{4711 >> 8, 4711 & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, n := range labels {
		b = append(append(b, byte(n)), strings.Repeat("x", n)...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"", "1", "1.2.3", "1.2.3.4", "1.2.3.4.", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "255.255.255.255", "0.0.0.0", "1..2.3", ".1.2.3", "1.2.3.4x",
		"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7", "1::2::3", ":", ":1", "1:", ":::", "12345::",
		"fd00::a:B", "::ffff:10.1.2.3", "1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:7:7.8.9.10", "::1.2.3", "1.2.3.4::", "g::", "1:2:3:4::5:6:7:8", "0:0:1:0:0:0:1:0", "1:0:0:2:0:0:3:4", "0:1:0:1:0:1:0:1"} {
		want, err := netip.ParseAddr(s)
		four, ok4 := parse4([]byte(s))
		six, ok6 := parse6([]byte(s))
		if ok4 != (err == nil && want.Is4()) || ok6 != (err == nil && want.Is6()) {
			t.Errorf("%q: %v %v, netip says %v", s, ok4, ok6, err)
			continue
		}
		if ok4 && netip.AddrFrom4(four) != want || ok6 && netip.AddrFrom16(six) != want {
			t.Errorf("%q: %v %v", s, four, six)
		}
		if ok6 && !want.Is4In6() {
			if got := string(append6(nil, six)); got != want.String() {
				t.Errorf("%q is written %s, netip says %s", s, got, want)
			}
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add("10.0.0.1")
	f.Add("fd00::1:0:0:2")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "%") {
			return
		}
		want, err := netip.ParseAddr(s)
		a, ok := parse6([]byte(s))
		if ok != (err == nil && want.Is6()) || ok && netip.AddrFrom16(a) != want {
			t.Errorf("%q: %v %v, netip says %v %v", s, a, ok, want, err)
		}
		b, ok := parse4([]byte(s))
		if ok != (err == nil && want.Is4()) || ok && netip.AddrFrom4(b) != want {
			t.Errorf("%q: %v %v, netip says %v %v", s, b, ok, want, err)
		}
	})
}
