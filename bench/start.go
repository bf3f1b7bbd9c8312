package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cortenhq/corten/bench/procs"
	"github.com/cortenhq/corten/internal/testimage"
)

// warmups are rounds before those that count.
const warmups = 2

// settle is left between two commands: what the first left to its daemon, or to the kernel
// (network namespaces are torn down later), is not charged to the second.
const settle = 20 * time.Millisecond

// contender is a row that is being measured: a command made anew for each round.
type contender struct {
	row     *row
	argv    func() []string
	session *session // nil of a command that needs none
}

// benchBinary measures what the binaries cost before they do anything.
func benchBinary(s *scope) []*table {
	t := &table{Name: "binary", Title: "start of the binary, nothing done", Metrics: []metric{wallMs}, Base: "empty Go program"}
	fixed := func(name string, argv ...string) *contender {
		r := t.row(name)
		if _, err := os.Stat(argv[0]); err != nil {
			r.Note = "not installed"
		}
		return &contender{row: r, argv: func() []string { return argv }}
	}
	cs := []*contender{
		fixed("corten version", s.corten, "version"),
		fixed("empty Go program", s.build("empty")),
		fixed("crun --version", "/usr/bin/crun", "--version"),
	}
	s.rounds(cs)
	return []*table{t}
}

// benchStart measures run and exit of a static true from the smallest image.
func benchStart(s *scope) []*table {
	t := &table{Name: "start", Title: "run and exit, static true, no network", Metrics: []metric{wallMs, peakMB, standingMB}}
	s.starts(t, s.material(testimage.True(s), "true"))
	return []*table{t}
}

// benchStartTree measures the same from an image of a real system's size.
func benchStartTree(s *scope) []*table {
	set := testimage.Bench(s)
	t := &table{Name: "start-tree", Title: fmt.Sprintf("run and exit, static true in an image of %d files", set.Stats.Files),
		Metrics: []metric{wallMs, peakMB, standingMB}}
	s.starts(t, s.material(set.V1, "tree"))
	return []*table{t}
}

// benchStartHost measures run and exit on the host's own root.
func benchStartHost(s *scope) []*table {
	t := &table{Name: "start-host", Title: "run and exit of the host's /bin/true on the host's root, read-only", Metrics: []metric{wallMs, peakMB}}
	var cs []*contender
	for _, p := range s.chosen(func(p peer) bool { return p.host != "" }) {
		cs = append(cs, s.contend(t, p, nil, p.host))
	}
	s.rounds(cs)
	s.peaks(cs)
	return []*table{t}
}

func (s *scope) starts(t *table, values map[string]string) {
	var cs []*contender
	for _, p := range s.chosen(func(p peer) bool { return p.run != "" }) {
		cs = append(cs, s.contend(t, p, values, p.run))
	}
	s.rounds(cs)
	s.peaks(cs)
}

// chosen are the peers that the user asked for and that do the work in question.
func (s *scope) chosen(can func(peer) bool) (ps []peer) {
	for _, p := range s.peers() {
		if can(p) && (s.whom.MatchString(p.name) || strings.HasPrefix(p.name, "corten")) {
			ps = append(ps, p)
		}
	}
	return ps
}

// contend opens a session of p, loads the image into it and returns the row to measure.
// What goes wrong is noted in the row.
func (s *scope) contend(t *table, p peer, values map[string]string, c command) *contender {
	r := t.row(p.name)
	if r.Note = p.missing(); r.Note != "" {
		return &contender{row: r}
	}
	var ss *session
	r.Note = s.try(func() {
		ss = s.open(p)
		ss.set(values)
		if p.load != "" && values != nil {
			_, err := s.exec(ss.argv(p.load))
			s.must(err)
		}
		if ss.pid != 0 {
			r.add(standingMB, float64(procs.Standing(ss.pid))/1e6)
		}
	})
	return &contender{r, func() []string { return ss.argv(c) }, ss}
}

// do executes a contender's command, on the machine that it has.
func (s *scope) do(c *contender) (wall time.Duration, err error) {
	net := ""
	if c.session != nil {
		net = c.session.net()
	}
	argv := c.argv()
	err = inNet(net, func() error {
		wall, err = s.exec(argv)
		return err
	})
	return wall, err
}

// try runs f and says why it stopped, or "". Unlike within it leaves the scope as it is.
func (s *scope) try(f func()) (why string) {
	defer func() {
		if p, ok := recover().(stopped); ok {
			why = "fails: " + string(p)
		}
	}()
	f()
	return ""
}

// rounds measures the contenders in turn. Within a round the order is shuffled, the same way
// in each run, so that no contender always follows the heaviest.
func (s *scope) rounds(cs []*contender) {
	dice := rand.New(rand.NewPCG(1, 2))
	for n := range warmups + s.n {
		for _, i := range dice.Perm(len(cs)) {
			c := cs[i]
			if c.row.Note != "" {
				continue
			}
			time.Sleep(settle)
			wall, err := s.do(c)
			if err != nil {
				c.row.Note = "fails: " + err.Error()
			} else if n >= warmups {
				c.row.add(wallMs, ms(wall))
			}
		}
	}
}

// peaks measures the memory of a few more starts, apart from the rounds that are timed.
func (s *scope) peaks(cs []*contender) {
	peak := s.build("peak")
	for range 3 {
		for _, c := range cs {
			if c.row.Note != "" {
				continue
			}
			argv, net := c.argv(), ""
			if c.session != nil {
				net = c.session.net()
			}
			_ = inNet(net, func() error {
				u, err := s.measure(peak, 0, argv)
				if err == nil {
					c.row.add(peakMB, float64(u.largest)/1e6)
				}
				return err
			})
		}
	}
}

// benchMany measures n starts from one image, two at a time.
func benchMany(s *scope, n int) []*table {
	t := &table{Name: fmt.Sprintf("starts-%d", n), Title: fmt.Sprintf("%d starts from one image, two at a time; time per start", n), Metrics: []metric{wallMs}}
	values := s.material(testimage.True(s), "true")
	for _, p := range s.chosen(func(p peer) bool { return p.run != "" }) {
		c := s.contend(t, p, values, p.run)
		if c.row.Note == "" {
			wall, err := s.atATime(2, c, n)
			if err != nil {
				c.row.Note = "fails: " + err.Error()
				continue
			}
			c.row.add(wallMs, ms(wall)/float64(n))
		}
	}
	return []*table{t}
}

// atATime executes a contender's command n times, some at a time.
func (s *scope) atATime(some int, c *contender, n int) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, some)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				_, errs[i] = s.do(c)
			}
		})
	}
	wg.Wait()
	wall := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return wall, nil
}
