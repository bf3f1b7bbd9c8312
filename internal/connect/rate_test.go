package connect_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/spec"
)

// Some bytes take as long as the rate says, in both directions and after a change.
func TestRates(t *testing.T) {
	l := newLab(t)
	before := l.left()
	lk := link(bridge("ct-f", 1), 2)
	lk.Rate = spec.Rate{In: 40e6, Out: 80e6}
	b := l.newBox(lk).up()
	out, in := b.pour(l.host, "10.200.1.1:5000"), l.host.pour(b.place, "10.200.1.2:5000")
	check := func(what string, got, want float64) {
		t.Helper()
		// Headers are some 4 % of it; a host that is busy is slower, and never faster.
		if got > want*1.15 || got < want*0.7 {
			t.Errorf("%s: %.1f Mbit/s, want %.0f", what, got/1e6, want/1e6)
		}
	}
	check("out", out, 80e6)
	check("in", in, 40e6)

	b.doc.Links[0].Rate = spec.Rate{Out: 30e6}
	b.write()
	b.start("change")
	b.tell()
	want(t, b.peer)
	b.peer.Close()
	check("out, changed", b.pour(l.host, "10.200.1.1:5000"), 30e6)
	if in := l.host.pour(b.place, "10.200.1.2:5000"); in < 80e6 {
		t.Errorf("in, without a limit: %.1f Mbit/s", in/1e6)
	}
	b.down()
	l.idle(before)
}

// pour is how many bits per second flow to a port of another place, once the burst is over.
func (p *place) pour(to *place, address string) float64 {
	p.t.Helper()
	var ln net.Listener
	var c net.Conn
	var err error
	to.in(func() { ln, err = net.Listen("tcp", address) })
	if err == nil {
		defer ln.Close()
		p.in(func() { c, err = net.Dial("tcp", address) })
	}
	if err != nil {
		p.t.Fatal(err)
	}
	const burst, bytes = 1 << 20, 4 << 20
	go func() {
		defer c.Close()
		_, _ = c.Write(make([]byte, burst+bytes))
	}()
	s, err := ln.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	_, _ = io.CopyN(io.Discard, s, burst)
	begin := time.Now()
	n, _ := io.Copy(io.Discard, s)
	return float64(n) * 8 / time.Since(begin).Seconds()
}
