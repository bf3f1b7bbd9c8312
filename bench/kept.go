package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cortenhq/corten/internal/testimage"
)

// benchDetach measures until a container that sleeps has been started in the background.
func benchDetach(s *scope) []*table {
	t := &table{Name: "detach", Title: "start of a container in the background, until the command returns", Metrics: []metric{wallMs}}
	var cs []*contender
	values := s.material(testimage.Busybox(s), "busybox")
	for _, p := range s.chosen(func(p peer) bool { return p.down != "" && p.load != "" }) {
		cs = append(cs, s.contend(t, p, values, p.up))
	}
	s.keptRounds(cs, warmups+s.n, func(c *contender, n int) error {
		wall, err := s.exec(c.argv())
		if err == nil && n >= warmups {
			c.row.add(wallMs, ms(wall))
		}
		return err
	})
	return []*table{t}
}

// logLines is how many lines of 100 bytes the log benchmark's container writes.
const logLines = 4_000_000

// benchLogs measures how long a container takes that writes as fast as it can, with its
// output going to a log; each peer's own, on the same disk.
func benchLogs(s *scope) []*table {
	t := &table{Name: "logs", Title: fmt.Sprintf("a container that writes %d lines of 100 bytes, until it has ended", logLines), Metrics: []metric{wallS}}
	var cs []*contender
	values := s.material(testimage.Busybox(s), "busybox")
	values["lines"], values["count"] = s.build("lines"), fmt.Sprint(logLines)
	for _, p := range s.chosen(func(p peer) bool { return p.write != "" }) {
		cs = append(cs, s.contend(t, p, values, p.write))
	}
	s.keptRounds(cs, 1+max(s.n/10, 1), func(c *contender, n int) error {
		wall, err := s.exec(c.argv())
		if err != nil {
			return err
		}
		more, err := s.exec(c.session.argv(c.session.wait))
		if err == nil && n >= 1 {
			c.row.add(wallS, (wall + more).Seconds())
		}
		return err
	})
	return []*table{t}
}

// keptRounds is rounds for what leaves a container behind: it is removed each time, and that
// is not measured.
func (s *scope) keptRounds(cs []*contender, rounds int, measure func(c *contender, n int) error) {
	dice := rand.New(rand.NewPCG(1, 2))
	for n := range rounds {
		for _, i := range dice.Perm(len(cs)) {
			c := cs[i]
			if c.row.Note != "" {
				continue
			}
			time.Sleep(settle)
			c.session.values["name"] = fmt.Sprint("bench-kept", s.serial.Add(1))
			err := measure(c, n)
			if err == nil {
				_, err = s.exec(c.session.argv(c.session.down))
			}
			if err != nil {
				c.row.Note = "fails: " + err.Error()
			}
		}
	}
}
