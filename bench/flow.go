package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"time"
)

// A peer's pair of containers: one serves, at published ports, and the other asks.
const (
	iperfPort, webPort = "5201", "8080"
	server, client     = "bench-server", "bench-client"
)

// lane is how what is measured gets from one to the other.
type lane struct {
	title string
	from  string // "container", "host", "outside"
	to    string // an address, or "4" and "6" for the server's own
	six   bool
}

// lanes are those that a published port has, and the one between containers.
func lanes() []lane {
	return []lane{
		{"container to container, IPv4", "container", "4", false},
		{"host to container, IPv4", "host", "4", false},
		{"host to published port, IPv4", "host", machine4, false},
		{"other machine to published port, IPv4", "outside", machine4, false},
		{"container to container, IPv6", "container", "6", true},
		{"host to container, IPv6", "host", "6", true},
		{"host to published port, IPv6", "host", machine6, true},
		{"other machine to published port, IPv6", "outside", machine6, true},
	}
}

// side is a peer with its pair running.
type side struct {
	*session
	column metric
	own    map[string]string // the server's own addresses, by "4" and "6"
}

// sides starts the pairs of all that take part, the server with program.
func (s *scope) sides(program string) (all []*side) {
	values := s.toolbox()
	t := &table{}
	for _, c := range s.contendNet(t, values, func(p peer) command { return p.up }) {
		if c.row.Note != "" {
			s.say("%s: %s", c.row.Peer, c.row.Note)
			continue
		}
		a := &side{session: c.session, column: metric(c.row.Peer)}
		for _, one := range []struct{ name, publish, program string }{
			{server, "-p " + iperfPort + ":" + iperfPort + " -p " + webPort + ":80", program}, {client, "", "sleep 3600"}} {
			a.set(map[string]string{"name": one.name})
			argv := a.argv(fill(a.up, "{publish}", one.publish, "{program}", one.program))
			s.must(inNet(a.net(), func() error { _, err := s.exec(argv); return err }))
			end := a.argv(a.down)
			s.Cleanup(func() { _ = inNet(a.net(), func() error { _, err := s.exec(end); return err }) })
		}
		a.own = s.addresses(a)
		all = append(all, a)
	}
	if len(all) == 0 {
		s.Fatalf("no peer has its containers")
	}
	return all
}

// addresses asks the server for its own.
func (s *scope) addresses(a *side) map[string]string {
	own := map[string]string{}
	a.set(map[string]string{"name": server})
	out, err := s.output(a, "host", a.argv(fill(a.exec, "{command}", "ip address show dev eth0")))
	s.must(err)
	f := strings.Fields(string(out))
	for i, word := range f[:max(0, len(f)-1)] {
		at, _, _ := strings.Cut(f[i+1], "/")
		switch {
		case word == "inet":
			own["4"] = at
		case word == "inet6" && !strings.HasPrefix(at, "fe80"):
			own["6"] = at
		}
	}
	return own
}

// from is the command line that executes a command at the start of a lane.
func (a *side) from(l lane, words string) []string {
	if l.from == "container" {
		a.set(map[string]string{"name": client})
		return a.argv(fill(a.exec, "{command}", words))
	}
	return strings.Fields(words)
}

// target is the address at a lane's end, "" if there is none, and whether it is the container's own: then
// ports are, too.
func (a *side) target(l lane) (at string, own bool) {
	if l.to == "4" || l.to == "6" {
		return a.own[l.to], true
	}
	return l.to, false
}

func (s *scope) output(a *side, from string, argv []string) (out []byte, err error) {
	net := a.net()
	if from == "outside" {
		net = a.on.outside
	}
	err = inNet(net, func() error {
		cmd := exec.Command(argv[0], argv[1:]...)
		var said bytes.Buffer
		cmd.Env, cmd.Dir, cmd.Stderr = s.env, s.dir, &said
		if out, err = cmd.Output(); err != nil {
			return fmt.Errorf("%s: %w: %.300s%.300s", strings.Join(argv, " "), err, said.Bytes(), out)
		}
		return nil
	})
	return out, err
}

// benchTCP measures what TCP carries, in Gbit/s.
func benchTCP(s *scope) []*table {
	t := &table{Name: "net-tcp", Title: "TCP, iperf3, Gbit/s: more is better", Across: true}
	type work struct {
		lane
		streams int
		row     *row
	}
	var works []work
	for _, l := range lanes() {
		for _, n := range []int{1, 8} {
			works = append(works, work{l, n, t.row(fmt.Sprintf("%s, streams: %d", l.title, n))})
		}
	}
	sides := s.sides("iperf3 -s")
	s.turns(t, sides, len(works), func(a *side, i int) error {
		w := works[i]
		at, _ := a.target(w.lane)
		if at == "" {
			return nil
		}
		argv := a.from(w.lane, fmt.Sprintf("iperf3 -J -A 0,1 -t 1 -c %s -p %s -P %d", at, iperfPort, w.streams))
		bits, err := s.iperf(a, w.from, argv)
		if err == nil {
			w.row.add(a.column, bits/1e9)
		}
		return err
	})
	return []*table{t}
}

// iperf is the bits a second that arrived. The server may not have done with the client before.
func (s *scope) iperf(a *side, from string, argv []string) (bits float64, err error) {
	var said struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	for range 5 {
		var out []byte
		if out, err = s.output(a, from, argv); err == nil {
			err = json.Unmarshal(out, &said)
			return said.End.Received.Bits, err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return 0, err
}

// benchHTTP measures requests of 1 kB, on 32 connections that stay.
func benchHTTP(s *scope) []*table {
	t := &table{Name: "net-http", Title: "wrk with 32 connections against nginx in a container, 1 kB each; of requests/s more is better, of latencies less", Across: true}
	all := lanes()
	rows := map[string]*row{}
	for _, l := range all {
		for _, what := range []string{"requests/s", "p50 ms", "p99 ms"} {
			rows[l.title+what] = t.row(l.title + ", " + what)
		}
	}
	sides := s.sides("nginx -c /nginx.conf")
	s.turns(t, sides, len(all), func(a *side, i int) error {
		l := all[i]
		at, own := a.target(l)
		if at == "" {
			return nil
		}
		if l.six {
			at = "[" + at + "]"
		}
		port := webPort
		if own {
			port = "80"
		}
		out, err := s.output(a, l.from, a.from(l, "wrk -t 2 -c 32 -d 1s --latency http://"+at+":"+port+"/"))
		if err != nil {
			return err
		}
		for what, v := range wrkResults(string(out)) {
			rows[l.title+what].add(a.column, v)
		}
		return nil
	})
	return []*table{t}
}

// wrkResults reads what wrk prints.
func wrkResults(out string) map[string]float64 {
	found := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		switch f[0] {
		case "Requests/sec:":
			var v float64
			if _, err := fmt.Sscan(f[1], &v); err == nil {
				found["requests/s"] = v
			}
		case "50%", "99%":
			if d, err := time.ParseDuration(f[1]); err == nil {
				found["p"+strings.TrimSuffix(f[0], "%")+" ms"] = ms(d)
			}
		}
	}
	return found
}

// turns has the sides do each work, in rounds, in turn: one after another on each work, in an order
// that is shuffled.
func (s *scope) turns(t *table, sides []*side, works int, do func(a *side, work int) error) {
	for _, a := range sides {
		t.Metrics = append(t.Metrics, a.column)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	failed := map[string]bool{}
	for range max(s.n/10, 1) {
		for w := range works {
			for _, i := range dice.Perm(len(sides)) {
				if err := do(sides[i], w); err != nil && !failed[fmt.Sprint(w, i)] {
					failed[fmt.Sprint(w, i)] = true
					s.say("%s: %s: %v", t.Rows[0].Peer, sides[i].column, err)
				}
			}
		}
	}
}
