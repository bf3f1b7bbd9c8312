package crash_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// keptStart is a way to start a container that lives on, and what is to be killed of it.
type keptStart struct {
	name   string
	flags  []string
	victim string // the beginning of a role; empty: the command
	runs   uint64 // how often its command is started
	step   int    // of how many points one is tried by default
}

func keptStarts() []keptStart {
	restart := []string{"--restart", "on-failure:2"}
	return []keptStart{
		{"command", nil, "", 1, 29},
		{"command rm", []string{"--rm"}, "", 1, 37},
		{"begin", nil, "keep begin", 1, 23},
		{"begin rm", []string{"--rm", "-v", "/media/anonymous"}, "keep begin", 1, 29},
		{"begin no init", []string{"--no-init"}, "keep begin", 1, 31},
		{"keeper", nil, "keeper", 1, 17},
		{"keeper small log", []string{"--log-opt", "max-size=10k", "--log-opt", "max-file=1000"}, "keeper", 1, 37},
		{"end", nil, "keep end", 1, 11},
		{"end rm", []string{"--rm", "-v", "/media/anonymous"}, "keep end", 1, 11},
		{"restart", restart, "keep start", 3, 97},
		{"restart end", restart, "keep end", 3, 47},
		{"restart rest", restart, "rest", 3, 17},
	}
}

// TestKillKeptCalls kills, before each of their system calls that matter, the command that
// starts a container which lives on, and each program that then looks after it.
func TestKillKeptCalls(t *testing.T) {
	if !canTrace {
		t.Skip("needs an amd64 machine")
	}
	for _, s := range keptStarts() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			n, step := 1+os.Getpid()%s.step, s.step
			if full() {
				n, step = 1, 1
			}
			for done := false; !done && !t.Failed(); n += step {
				done = w.killKept(s, n)
			}
		})
	}
}

// killKept kills at the n-th call of the victim, and reports whether all ended before.
func (w *world) killKept(s keptStart, n int) (done bool) {
	w.t.Helper()
	k := w.plan("same", 40, 7)
	cmd := w.corten(k.args(s.flags...)...)
	said := w.listen(cmd)
	count, where := 0, ""
	ws := traceKept(w.t, cmd, func(c call) verdict {
		if c.child || where != "" || !strings.HasPrefix(c.role, s.victim) || s.victim == "" && c.role != "" || idle(c.nr) {
			return verdict{}
		}
		if count++; count != n {
			return verdict{}
		}
		where = fmt.Sprintf("%s, killed at %d: %v", s.name, n, c)
		k.find()
		k.story = append(k.story, where)
		return verdict{killCommand: s.victim == "", killCaller: s.victim != "", letGo: true}
	})
	if where == "" && ws.ExitStatus() != 0 {
		w.t.Errorf("without a kill: status %v\n%s", ws, said())
	}
	k.survived(s, ws, said(), where)
	if where == "" {
		w.t.Logf("%d calls", count)
		if count == 0 {
			w.t.Error("it is never executed")
		}
	}
	return where == ""
}

// survived checks what became of a container after a kill.
func (k *kept) survived(s keptStart, ws syscall.WaitStatus, said, where string) {
	w := k.w
	w.t.Helper()
	when := where
	if when == "" {
		when = s.name + ", not killed"
	}
	st, there := k.settle(when)
	rm := len(s.flags) > 0 && s.flags[0] == "--rm"
	started := ws.ExitStatus() == 0
	switch {
	case there && (rm && st.Status == "exited" || st.Status == "created"):
		w.t.Errorf("%s: not removed: %+v", when, st)
	case !there && started && !rm:
		w.t.Errorf("%s: started, and lost", when)
	case there && !started && s.victim != "":
		w.t.Errorf("%s: %+v, but the command said: %s", when, st, said)
	case !there && !started && s.victim != "" && !strings.Contains(said, "the process that started it was killed"):
		w.t.Errorf("%s: status %v, said %q", when, ws, said)
	}
	if there && st.Status == "exited" {
		lost := st.ExitCode == 255 && slices.Contains(s.flags, "--no-init") // it ended while it had no keeper
		if st.ExitCode != k.code && !lost || st.Restarts != int(s.runs)-1 || k.notes.runs.Load() < s.runs {
			w.t.Errorf("%s: %+v after %d runs", when, st, k.notes.runs.Load())
		}
		k.logged(when, !slices.Contains(s.flags, "--no-init"))
	}
	if k.notes.twice.Load() > 0 {
		w.t.Errorf("%s: two at once", when)
	}
	if there {
		k.over(when)
		return
	}
	w.ends()
	w.clean(when)
	if _, err := os.Lstat(filepath.Join(w.root, "names", k.name)); err == nil {
		w.t.Errorf("%s: the name is there", when)
	}
}
