package crash_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCrowd has fifty commands at once, of all kinds and with names in common, half of which
// are killed at random.
func TestCrowd(t *testing.T) {
	w := newWorld(t)
	w.load()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var all sync.WaitGroup
	for i := range 50 {
		args := []string{"run", "--name", fmt.Sprintf("name%d", i%20)}
		if i%3 != 0 {
			args = append(args, "--rm")
		}
		switch i % 4 {
		case 0:
			args = append(args, "-v", "shared:/srv/data", "host")
		case 1:
			args = append(args, "--memory", fmt.Sprintf("%dm", 16+i), "--pids-limit", "20", "host")
		case 2:
			args = append(args, "-v", "seeded:/bin", "-v", "other:/etc", "-v", "/anonymous", imageName)
		case 3:
			args = append(args, "-v", "other:/etc", "-v", "seeded:/bin", "--no-init", imageName)
		}
		args = append(args, "sh", "-c", fmt.Sprintf("sleep 0.0%d; exit 7", random.IntN(9)))
		life := time.Duration(random.IntN(100)) * time.Millisecond
		all.Go(func() {
			cmd := w.corten(args...)
			said := w.listen(cmd)
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			killed := i%2 == 1
			if killed {
				time.Sleep(life)
				_ = cmd.Process.Kill()
			}
			_ = cmd.Wait()
			code := cmd.ProcessState.ExitCode()
			taken := code == 125 && strings.Contains(said(), "has that name")
			if code != 7 && !taken && !(killed && code == -1) {
				t.Errorf("corten %s: status %d\n%s", strings.Join(args, " "), code, said())
			}
		})
	}
	all.Wait()
	w.ends()
	w.sweep()
	w.clean("all together", names(filepath.Join(w.root, "names"))...)
	for _, v := range []string{"seeded", "other"} {
		if files := w.must("run", "--rm", "-v", v+":/mnt", imageName, "ls", "/mnt"); files == "" {
			t.Errorf("volume %s is empty", v)
		}
	}
	if files := w.must("run", "--rm", "-v", "seeded:/mnt", imageName, "ls", "/mnt"); files != w.files {
		t.Errorf("volume seeded has %q, not what the image has: %q", files, w.files)
	}
}

// TestOneName has many commands want the name of a dead container at once: one gets it.
func TestOneName(t *testing.T) {
	for range 5 {
		w := newWorld(t)
		dead := w.live([]string{"--rm", "--name", "wanted"}, "echo up; sleep 1000")
		_ = dead.cmd.Process.Kill()
		dead.wait()
		var all sync.WaitGroup
		won := make(chan *exec.Cmd, 20)
		hold, release, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			all.Go(func() {
				cmd := w.corten("run", "--rm", "-i", "--name", "wanted", "host", "sh", "-c", "read x; exit 7")
				cmd.Stdin = hold
				said := w.listen(cmd)
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				won <- cmd
				_ = cmd.Wait()
				switch code := cmd.ProcessState.ExitCode(); {
				case code == 7:
				case code == 125 && strings.Contains(said(), "has that name"):
					<-won
				default:
					t.Errorf("status %d\n%s", code, said())
					<-won
				}
			})
		}
		for deadline := time.Now().Add(20 * time.Second); len(won) != 1 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if n := len(won); n != 1 {
			t.Errorf("%d have the name", n)
		}
		hold.Close()
		release.Close()
		all.Wait()
		w.ends()
		w.clean("at once")
	}
}

// TestSequence runs many containers one after the other.
func TestSequence(t *testing.T) {
	w := newWorld(t)
	for range 200 {
		w.must("run", "--rm", "--memory", "64m", "-v", "vol:/srv/data", "host", "true")
	}
	w.ends()
	w.clean("at once")
}

// TestSweepsAtOnce leaves many dead containers to several commands.
func TestSweepsAtOnce(t *testing.T) {
	w := newWorld(t)
	var dead []*live
	for range 20 {
		dead = append(dead, w.live([]string{"--rm", "--pid", "host", "-v", "/srv/anonymous"}, scripts()["daemons"]))
	}
	for _, l := range dead {
		_ = unix.Kill(l.cmd.Process.Pid, unix.SIGKILL)
		l.wait()
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { w.sweep() })
	}
	all.Wait()
	w.ends()
	w.clean("all swept")
}

// TestManyDead starts a container while many records of dead ones wait. It runs before they
// are swept, and afterwards they are.
func TestManyDead(t *testing.T) {
	w := newWorld(t)
	w.strand(1000)
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.corten("run", "--rm", "-i", "host", "sh", "-c", "echo up; read x; exit 0")
	said := w.listen(cmd)
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	var up [3]byte
	if _, err := io.ReadFull(out, up[:]); err != nil {
		t.Fatalf("%v\n%s", err, said())
	}
	left := len(names(filepath.Join(w.run, "active")))
	t.Logf("%d records when the container runs", left)
	if left < 500 {
		t.Errorf("%d records of 1,000 are left: the container had to wait for the others", left)
	}
	hold.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said())
	}
	w.ends()
	w.clean("at once")
}

// strand makes what n commands leave that were killed while their containers ran.
func (w *world) strand(n int) {
	w.t.Helper()
	var made []string
	for i := range n {
		id := fmt.Sprintf("%064x", i)
		group := filepath.Join(v2(), "corten", id)
		for _, dir := range []string{filepath.Join(w.root, "containers", id, "upper"), filepath.Join(w.root, "containers", id, "work"), group} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				w.t.Fatal(err)
			}
		}
		name := fmt.Sprintf("dead%d", i)
		err := os.WriteFile(filepath.Join(w.run, "active", id), fmt.Appendf(nil, `{"name":%q,"groups":[%q],"remove":true}`, name, group), 0o600)
		if err == nil {
			err = os.Symlink(id, filepath.Join(w.root, "names", name))
		}
		if err == nil {
			err = os.Symlink(id, filepath.Join(w.run, "ids", fmt.Sprint(i)))
		}
		if err != nil {
			w.t.Fatal(err)
		}
		made = append(made, name)
	}
	if left := w.leftovers(); !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, made[n-1]) }) {
		w.t.Fatalf("nothing is stranded: %v", left)
	}
}

// v2 is where cgroup v2 is mounted.
func v2() string {
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
		return "/sys/fs/cgroup/unified"
	}
	return "/sys/fs/cgroup"
}

// TestReboot has the machine forget what is running: what it left is cleared up by the first
// command, and only what it left.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	early := 0
	if canTrace {
		trace(t, w.corten("run", "--rm", "--name", "young", "host", "true"), func(c call) verdict {
			if c.child {
				early++
			}
			return verdict{killCommand: c.child} // before it has written down what it is
		})
	}
	kept := w.live([]string{"--name", "kept"}, "echo up; sleep 1000")
	gone := w.live([]string{"--rm", "--name", "gone"}, "echo up; sleep 1000")
	for _, l := range []*live{kept, gone} {
		_ = l.cmd.Process.Kill()
		l.wait()
	}
	w.ends()
	for _, f := range []string{w.run, filepath.Join(w.root, "containers.boot")} {
		if err := os.RemoveAll(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range w.groupsLeft() {
		_ = os.Remove(g)
	}
	w.sweep()
	w.clean("after the reboot", "kept")
	if canTrace && early == 0 {
		t.Error("the young one was not killed")
	}
	for _, name := range []string{"gone", "young"} {
		w.must("run", "--rm", "--name", name, "host", "true")
	}
	left := names(filepath.Join(w.root, "containers"))
	if len(left) != 1 {
		t.Fatalf("containers %v", left)
	}
	if b, _ := os.ReadFile(filepath.Join(w.root, "containers", left[0], "state.json")); !strings.Contains(string(b), `"exitCode":137`) {
		t.Errorf("the kept one's state: %s", b)
	}
}

// TestRunCleared has somebody clear what a reboot forgets, while a container runs: the next
// command must not take it for dead.
func TestRunCleared(t *testing.T) {
	w := newWorld(t)
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	cmd := w.corten("run", "-i", "--name", "alive", "host", "sh", "-c", "echo up; read x; echo still > /etc/written && cat /etc/written; exit 7")
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.run); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	_, _ = hold.WriteString("\n")
	rest, _ := io.ReadAll(out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 && code != 125 || string(rest) != "still\n" {
		t.Errorf("%v, wrote %q", cmd.ProcessState, rest)
	}
	w.ends()
	w.clean("at once", "alive")
}
