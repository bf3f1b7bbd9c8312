package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRestartsKilled kills the keeper, whatever it executes, and the container, of containers
// that are started again and again: there are never two at once, and restarts are counted.
func TestRestartsKilled(t *testing.T) {
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for n := range rounds(16) / 8 {
		const restarts = 4
		k := w.plan(fmt.Sprintf("again%d", n), 1+random.IntN(40), 7)
		when := k.name
		w.must(k.args("--restart", fmt.Sprintf("on-failure:%d", restarts))...)
		k.find()
		for deadline := time.Now().Add(time.Minute); k.state().Status != "exited"; {
			time.Sleep(time.Duration(random.IntN(60000)) * time.Microsecond)
			if random.IntN(4) == 0 {
				k.kill("init")
			} else {
				k.kill("keeper")
			}
			if random.IntN(3) > 0 {
				_, _ = w.within("ps", "-a")
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: still %+v\n%s", when, k.state(), k.dump())
			}
		}
		st, _ := k.settle(when)
		// One that was let go when its keeper was killed counts, though its command did not begin.
		if st.Restarts != restarts || st.ExitCode == 0 || k.notes.runs.Load() > restarts+1 {
			t.Errorf("%s: %+v, ran %d times\n%s", when, st, k.notes.runs.Load(), k.dump())
		}
		if k.notes.twice.Load() > 0 {
			t.Errorf("%s: two at once", when)
		}
		k.over(when)
		if t.Failed() {
			return
		}
	}
}

// TestStopMeanwhile stops and removes containers that are being started again at that time.
func TestStopMeanwhile(t *testing.T) {
	w := newWorld(t)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for n := range rounds(24) / 4 {
		k := w.plan(fmt.Sprintf("meanwhile%d", n), 1+random.IntN(10), 7)
		w.must(k.args("--restart", "always")...)
		k.find()
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
		verb := [][]string{{"stop", "-t", "5"}, {"rm", "-f"}, {"kill"}}[n%3]
		code, said := w.within(append(verb, k.name)...)
		if code != 0 && (verb[0] != "kill" || !strings.Contains(said, "not running")) {
			t.Fatalf("%v: status %d\n%s", verb, code, said)
		}
		if verb[0] == "rm" {
			w.ends()
			w.clean("removed")
			continue
		}
		if st, _ := k.settle(k.name); st.Status != "exited" {
			t.Errorf("%v: %+v", verb, st)
		}
		k.logged(k.name, true)
		if k.notes.twice.Load() > 0 {
			t.Errorf("two at once")
		}
		k.over(k.name)
	}
}

// TestStartsAtOnce has many commands start one container: one does, and none fails.
func TestStartsAtOnce(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		k := w.plan(fmt.Sprintf("once%d", n), 2000, 3)
		args := append([]string{"create"}, k.args()[2:]...)
		w.must(args...)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if code, said := w.within("start", k.name); code != 0 {
					t.Errorf("start: status %d\n%s", code, said)
				}
			})
		}
		all.Wait()
		k.find()
		if runs := k.notes.runs.Load(); k.state().Status == "running" && runs > 1 || k.notes.twice.Load() > 0 {
			t.Errorf("%d runs, %d at once", runs, k.notes.twice.Load())
		}
		if code, said := w.within("rm", "-f", "-v", k.name); code != 0 {
			t.Errorf("rm: status %d\n%s", code, said)
		}
		w.ends()
		w.clean("removed")
	}
}

// TestKeptCrowd has fifty commands at once, of all kinds, on a few containers.
func TestKeptCrowd(t *testing.T) {
	w := newWorld(t)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for round := range 1 + rounds(90)/30 {
		var list []*kept
		for i := range 5 {
			k := w.plan(fmt.Sprintf("crowd%d", i), 100000, 3)
			w.must(k.args("--restart", []string{"no", "always", "on-failure:5"}[i%3])...)
			list = append(list, k)
		}
		verbs := [][]string{{"stop", "-t", "1"}, {"start"}, {"restart", "-t", "0"}, {"kill"}, {"pause"}, {"unpause"}, {"rm", "-f"}, {"rm"},
			{"update", "--memory", "100m"}, {"update", "--restart", "no"}, {"rename"}, {"inspect"}, {"logs", "--tail", "3"}}
		var all sync.WaitGroup
		for range 50 {
			args := verbs[random.IntN(len(verbs))]
			name := fmt.Sprintf("crowd%d", random.IntN(5))
			args = append(args[:len(args):len(args)], name)
			if args[0] == "rename" {
				args = append(args, fmt.Sprintf("crowd%d", random.IntN(5)))
			}
			wait := time.Duration(random.IntN(200)) * time.Millisecond
			all.Go(func() {
				time.Sleep(wait)
				code, said := w.within(args...)
				if code != 0 && !expected(said) {
					t.Errorf("corten %s: status %d\n%s", strings.Join(args, " "), code, said)
				}
			})
		}
		all.Wait()
		if code, said := w.within("ps", "-a"); code != 0 {
			t.Errorf("ps: status %d\n%s", code, said)
		}
		for _, k := range list {
			if k.notes.twice.Load() > 0 {
				t.Errorf("%s: two at once", k.name)
			}
		}
		left := names(filepath.Join(w.root, "names"))
		if len(left) > 0 {
			if code, said := w.within(append([]string{"rm", "-f", "-v"}, left...)...); code != 0 {
				t.Errorf("rm: status %d\n%s", code, said)
			}
		}
		if !w.ends() {
			for _, id := range names(filepath.Join(w.run, "keep")) {
				b, _ := os.ReadFile(filepath.Join(w.root, "containers", id, "state.json"))
				t.Errorf("%s: %s", id, b)
			}
		}
		w.clean(fmt.Sprintf("round %d", round))
		if t.Failed() {
			return
		}
	}
}

// expected reports whether an error says no more than that another command was faster.
func expected(said string) bool {
	for _, s := range []string{"no such container", "is not running", "not running any more", "it is running", "it is restarting", "it is paused", "is not paused",
		"has that name", "with --force", "is busy with it", "started meanwhile", "looking after it"} {
		if strings.Contains(said, s) {
			return true
		}
	}
	return false
}
