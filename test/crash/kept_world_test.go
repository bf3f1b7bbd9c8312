package crash_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeptReboot has the machine forget what runs, once nothing does: boot starts what is to
// run again.
func TestKeptReboot(t *testing.T) {
	w := newWorld(t)
	wants := map[string]struct {
		policy string
		stop   bool
		runs   bool // after boot
	}{
		"always": {"always", false, true}, "always-stopped": {"always", true, true},
		"unless": {"unless-stopped", false, true}, "unless-stopped": {"unless-stopped", true, false},
		"failure": {"on-failure", false, false}, "never": {"no", false, false},
	}
	all := map[string]*kept{}
	for name, want := range wants {
		k := w.plan(name, 1<<30, 3)
		w.must(k.args("--restart", want.policy)...)
		k.find()
		if all[name] = k; want.stop {
			w.must("stop", "-t", "0", name)
		}
	}
	rm := w.plan("gone", 1<<30, 3)
	w.must(rm.args("--rm", "-v", "/media/anonymous")...)
	w.must("create", "--name", "created", "host", "true")
	w.die()
	w.forget()
	if code, said := w.within("boot"); code != 0 {
		t.Errorf("boot: status %d\n%s", code, said)
	}
	if rm.find() != "" {
		t.Error("the container of --rm is there")
	}
	for name, want := range wants {
		st := all[name].state()
		if want.runs != (st.Status == "running") || !want.runs && (st.Status != "exited" || st.ExitCode != 137 && !want.stop) {
			t.Errorf("%s: %+v", name, st)
		}
		if all[name].notes.twice.Load() > 0 {
			t.Errorf("%s: two at once", name)
		}
	}
	w.removeAll()
}

// die ends all processes but this one, keepers first, as a power cut does.
func (w *world) die() {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		for _, p := range w.processes() {
			var pid int
			if _, err := fmt.Sscanf(p, "process %d", &pid); err == nil {
				strike(pid)
			}
		}
		reap()
		if len(w.processes()) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("still alive: %v", w.processes())
		}
	}
}

// forget removes what a reboot does.
func (w *world) forget() {
	w.t.Helper()
	for _, f := range []string{w.run, filepath.Join(w.root, "containers.boot")} {
		if err := os.RemoveAll(f); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, g := range w.groupsLeft() {
		_ = os.Remove(g)
	}
}

// removeAll removes every container, and looks that nothing is left.
func (w *world) removeAll() {
	w.t.Helper()
	if list := names(filepath.Join(w.root, "names")); len(list) > 0 {
		if code, said := w.within(append([]string{"rm", "-f", "-v"}, list...)...); code != 0 {
			w.t.Errorf("rm: status %d\n%s", code, said)
		}
	}
	w.ends()
	w.clean("all removed")
}

// TestKeptRunCleared has somebody clear RUN while containers run that live on: they go on, can
// be stopped, and are known to have ended.
func TestKeptRunCleared(t *testing.T) {
	for _, end := range []string{"stop", "kill", "rm -f", "itself"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t)
			k := w.plan("alive", 300, 3)
			if end != "itself" {
				k.lines = 1 << 30
			}
			w.must(k.args()...)
			k.find()
			for len(k.records()) == 0 { // a keeper that has only begun would find nothing
				time.Sleep(time.Millisecond)
			}
			for os.RemoveAll(w.run) != nil { // the keeper is at work there
				time.Sleep(time.Millisecond)
			}
			if code, said := w.within("ps", "-a"); code != 0 {
				t.Errorf("ps: status %d\n%s", code, said)
			}
			if end != "itself" {
				if st := k.state(); st.Status != "running" {
					t.Errorf("%+v", st)
				}
				args := append(strings.Fields(end), "alive")
				if end == "stop" {
					args = []string{"stop", "-t", "1", "alive"}
				}
				if code, said := w.within(args...); code != 0 {
					t.Errorf("%v: status %d\n%s", args, code, said)
				}
			}
			w.ends()
			if code, said := w.within("ps", "-a"); code != 0 {
				t.Errorf("ps: status %d\n%s", code, said)
			}
			if k.find() != "" {
				if st := k.state(); st.Status != "exited" {
					t.Errorf("%+v", st)
				}
			}
			w.removeAll()
		})
	}
}

// TestKeptInheritsNothing has a descriptor of whoever starts a container not be held by it.
func TestKeptInheritsNothing(t *testing.T) {
	w := newWorld(t)
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	cmd := w.corten("run", "-d", "--name", "alone", "host", "sleep", "1000")
	cmd.ExtraFiles = []*os.File{wr, wr, wr, wr, wr, wr, wr, wr, wr, wr}
	said := w.listen(cmd)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said())
	}
	wr.Close()
	if err := rd.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := rd.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("somebody has it open: %v", err)
	}
	w.removeAll()
}

// orphans is a script that leaves very many processes to PID 1, a thousand at a time.
const orphans = `i=0
while [ $i -lt 10 ]; do
	(j=0; while [ $j -lt 1000 ]; do (true & true & exit) ; j=$((j+2)); done)
	i=$((i+1))
done
n=0
while [ $n -lt 200 ]; do
	z=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)
	[ $z -eq 0 ] && echo "zombies 0" && exit 5
	n=$((n+1)); sleep 0.05
done
echo "zombies $z"; exit 6
`

// TestOrphans leaves 10,000 processes to a container's PID 1: none of them is left.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	if code, said := w.within("run", "--rm", "host", "sh", "-c", orphans); code != 5 || said != "zombies 0" {
		t.Errorf("in the foreground: status %d, %s", code, said)
	}
	w.must("run", "-d", "--name", "orphans", "host", "sh", "-c", orphans)
	if code, said := w.within("wait", "orphans"); code != 0 || said != "5" {
		t.Errorf("in the background: %s (%d)", said, code)
	}
	if said := w.must("logs", "orphans"); said != "zombies 0\n" {
		t.Errorf("logs: %s", said)
	}
	w.removeAll()
}

// TestForkBomb has a limit hold a fork bomb, and says so.
func TestForkBomb(t *testing.T) {
	w := newWorld(t)
	const bomb = "b() { b & b & sleep 1; }; b; sleep 0.3; (exit 1)"
	code, said := w.within("run", "--rm", "--pids-limit", "50", "host", "sh", "-c", bomb+"; exit 9")
	if code == 0 || !strings.Contains(said, "process limit met: limit 50") {
		t.Errorf("in the foreground: status %d, said %q", code, last(said))
	}
	w.must("run", "-d", "--name", "bomb", "--pids-limit", "50", "host", "sh", "-c", bomb+"; exit 9")
	if n := len(w.processes()); n > 60 {
		t.Errorf("%d processes", n)
	}
	if code, said := w.within("wait", "bomb"); code != 0 {
		t.Errorf("wait: %s (%d)", said, code)
	}
	if said := w.must("inspect", "--format", "{{.State.Error}}", "bomb"); !strings.Contains(said, "process limit met: limit 50") {
		t.Errorf("inspect: %s", said)
	}
	w.removeAll()
}

func last(said string) string { return said[max(0, len(said)-300):] }

// TestKeptFullDisk fills the disk that ROOT is on, while containers write their logs.
func TestKeptFullDisk(t *testing.T) {
	for _, disk := range []struct{ name, mount, needs string }{
		{"tmpfs", "mount -t tmpfs -o size=8m,nr_inodes=100000 none $dir", "mount"},
		{"ext4", "truncate -s 16M $dir.img && mkfs.ext4 -q -O ^has_journal $dir.img && mount -o loop $dir.img $dir", "mkfs.ext4"},
	} {
		for _, mode := range []string{"blocking", "non-blocking"} {
			t.Run(disk.name+" "+mode, func(t *testing.T) {
				if _, err := exec.LookPath(disk.needs); err != nil {
					t.Skip("needs " + disk.needs)
				}
				dir := filepath.Join(t.TempDir(), "disk")
				shell(t, "dir="+dir+"; mkdir $dir; "+disk.mount)
				t.Cleanup(func() { shell(t, "umount "+dir) })
				w := newWorld(t)
				w.root = filepath.Join(dir, "root")
				w.mounts = mounts(t)
				w.sweep()
				w.fullDisk(t, filepath.Join(dir, "filler"), mode)
			})
		}
	}
}

func (w *world) fullDisk(t *testing.T, filler, mode string) {
	const lines = 3000 // some 5 MB, of which 2 may be held while the disk is full
	k := w.plan("writes", lines, 3)
	w.must(k.args("--log-opt", "mode="+mode)...)
	k.find()
	idle := w.plan("idle", 0, 0)
	w.must("run", "-d", "--name", "idle", "host", "sleep", "1000")
	idle.find()
	fill(t, filler, 0)
	done := func() bool { return k.notes.taken[0].Load()+k.notes.taken[1].Load() == lines }
	for begun, at := time.Now(), uint64(0); ; time.Sleep(50 * time.Millisecond) {
		now := k.notes.taken[0].Load() + k.notes.taken[1].Load()
		if mode == "blocking" && now == at && time.Since(begun) > 3*time.Second || mode != "blocking" && done() {
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("%s: %d lines, %+v", mode, now, k.state())
		}
		if time.Since(begun) < 2*time.Second {
			at = now
		}
	}
	if mode == "blocking" && done() {
		t.Errorf("all is written on a full disk")
	}
	if code, said := w.within("ps", "-a"); code != 0 || !strings.Contains(said, "idle") {
		t.Errorf("ps on a full disk: status %d\n%s", code, said)
	}
	if said := w.must("inspect", "--format", "{{json .}}", "writes"); mode == "blocking" && !strings.Contains(said, "no space left") {
		t.Errorf("inspect does not tell of the log: %s", said)
	}
	code, said := w.within("stop", "-t", "1", "idle")
	t.Logf("stop on a full disk: %d %s", code, said)
	for _, p := range w.processes() {
		if strings.Contains(p, "sleep 1000") {
			t.Errorf("stop has not ended it: %s", p)
		}
	}
	code, said = w.within("rm", "-f", "idle")
	t.Logf("rm on a full disk: %d %s", code, said)
	if code == 0 && idle.find() != "" {
		t.Errorf("rm said nothing: %+v", idle.state())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	st, there := k.settle("room again")
	if !there || st.ExitCode != 3 {
		t.Errorf("%+v, %v", st, there)
	}
	if mode == "blocking" {
		k.logged("room again", true)
	}
	w.removeAll()
}
