package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/testimage"
)

// What is measured of very many containers that sleep.
const (
	startMs metric = "start ms" // each, two at a time
	listMs  metric = "ps -a ms"
	keptMB  metric = "keeper + init MB" // of a container: proportional set size (PSS), averaged over 100
	stopS   metric = "stop all s"
	removeS metric = "rm all s"
)

// benchIdle measures a machine with n containers that sleep, all of one image. The peers' daemons
// take minutes for as many: it is Corten alone, and the first row's own budget that matters.
func benchIdle(s *scope, n int) []*table {
	t := &table{Name: fmt.Sprintf("idle-%d", n), Title: fmt.Sprintf("%d containers that sleep", n), Metrics: []metric{startMs, listMs, keptMB, stopS, removeS}}
	values := s.material(testimage.Busybox(s), "busybox")
	for _, p := range s.chosen(func(p peer) bool { return p.name == "corten" }) {
		c := s.contend(t, p, values, p.up)
		if c.row.Note == "" {
			c.row.Note = s.try(func() { s.must(s.idle(c, n)) })
		}
	}
	return []*table{t}
}

func (s *scope) idle(c *contender, n int) error {
	// A name each, since a container is there as long as the others.
	start := &contender{row: c.row, session: c.session, argv: func() []string {
		return c.session.argv(command(strings.Replace(string(c.session.up), "{name}", "{id}", 1)))
	}}
	wall, err := s.atATime(2, start, n)
	if err != nil {
		return err
	}
	c.row.add(startMs, ms(wall)/float64(n))
	corten := command(s.corten + " --root {store} --run {run} ")
	for i := range warmups + s.n {
		wall, err := s.exec(c.session.argv(corten + "ps -a"))
		if err != nil {
			return err
		}
		if i >= warmups {
			c.row.add(listMs, ms(wall))
		}
	}
	c.row.add(keptMB, (shareOf("corten-keeper", 100)+shareOf("corten-init", 100))/1e6)
	ids, err := filepath.Glob(filepath.Join(c.session.values["store"], "containers", "*"))
	if err == nil && len(ids) != n {
		err = fmt.Errorf("%d containers of %d are there", len(ids), n)
	}
	if err != nil {
		return err
	}
	for i := range ids {
		ids[i] = filepath.Base(ids[i])
	}
	for _, end := range []struct {
		m    metric
		verb command
	}{{stopS, "stop -t 0"}, {removeS, "rm"}} {
		wall, err := s.exec(append(c.session.argv(corten+end.verb), ids...))
		if err != nil {
			return err
		}
		c.row.add(end.m, wall.Seconds())
	}
	return s.nothingLeft(c.session)
}

// nothingLeft says what is left of containers that were all removed.
func (s *scope) nothingLeft(ss *session) error {
	var all []error
	for _, dir := range []string{"store/containers", "store/names", "run/active", "run/ids", "run/keep"} {
		key, folder, _ := strings.Cut(dir, "/")
		if list, _ := os.ReadDir(filepath.Join(ss.values[key], folder)); len(list) > 0 {
			all = append(all, fmt.Errorf("%d are left in %s", len(list), dir))
		}
	}
	for _, program := range []string{"corten-keeper", "corten-init"} {
		if list := processesOf(program); len(list) > 0 {
			all = append(all, fmt.Errorf("%d processes %s are left", len(list), program))
		}
	}
	return errors.Join(all...)
}

// processesOf lists the processes that execute a program, but for those that are only not
// waited for.
func processesOf(program string) (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range list {
		b, _ := os.ReadFile(f)
		if strings.TrimSpace(string(b)) != program {
			continue
		}
		if stat, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "stat")); bytes.Contains(stat, []byte(") Z ")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// shareOf is the proportional set size of a process that executes the program, in bytes,
// averaged over at most n of them (proc_pid_smaps(5)).
func shareOf(program string, n int) float64 {
	sum, count := 0.0, 0
	for _, pid := range processesOf(program) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			var kib float64
			if _, err := fmt.Sscanf(line, "Pss: %f kB", &kib); err == nil {
				sum, count = sum+kib*1024, count+1
			}
		}
		if count == n {
			break
		}
	}
	return sum / float64(max(count, 1))
}
