package keeper

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
)

// A keeper is killed at any time, many times, while lines of all lengths come on two streams;
// each is in the log once and in order.
func TestKilledKeepersLoseNothing(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	w := newWorld(t)
	w.orders.Log.Size = 100_000 // so that files are begun all the time
	enough := filepath.Join(w.run, "enough")
	w.begin("writer", enough, "0")
	for range rounds {
		w.keep()
		// Most of the time of a keeper that starts is the start of the test program.
		time.Sleep(time.Duration(rand.IntN(int(25 * time.Millisecond))))
		w.kill()
	}
	w.must(os.WriteFile(enough, nil, 0o600))
	w.keep()
	_ = w.command.Wait()
	e := w.finish()
	if e.Status != 5 && !e.Unknown { // 5 is known from Linux 6.15 on
		t.Errorf("ended: %+v", e)
	}
	w.checkWriter()
	if calls := w.calls(); calls != "keep end c1\n" {
		t.Errorf("corten was called for %q", calls)
	}
}

// The same when the keeper executes itself anew.
func TestUpgradeUnderLoad(t *testing.T) {
	w := newWorld(t)
	w.orders.Log.Size = 1 << 20
	enough := filepath.Join(w.run, "enough")
	w.begin("writer", enough, "0")
	w.keep()
	for range 20 {
		w.until("the keeper catches signals", func() bool { return w.catches() })
		w.must(w.keeper.Process.Signal(unix.SIGHUP))
		w.until("another program starts", func() bool { return !w.catches() || rand.IntN(20) == 0 })
	}
	w.must(os.WriteFile(enough, nil, 0o600))
	_ = w.command.Wait()
	w.finish()
	w.checkWriter()
}

// catches says whether a keeper has come so far that it catches signals.
func (w *world) catches() bool {
	fds := "/proc/" + itoa(w.keeper.Process.Pid) + "/fd/"
	null, _ := os.Readlink(fds + "2")
	_, err := os.Readlink(fds + "15") // what is opened after the pipe of signals
	return err == nil && null == "/dev/null"
}

// started runs a command as a child of its keeper.
func (w *world) started(script string) {
	w.t.Helper()
	w.must(w.orders.Write(w.folder))
	w.keeper = w.program()
	w.keeper.Path = filepath.Join(filepath.Dir(w.root), "starter")
	w.keeper.Args = []string{w.keeper.Path, w.root, w.run, w.id, script}
	w.must(w.keeper.Start())
}

func TestEnd(t *testing.T) {
	for _, c := range []struct {
		script, out string
		want        Ended
	}{
		{"exit 0", "", Ended{}},
		{"echo a; printf b; exit 3", "a\nb", Ended{Status: 3}},
		{"kill -9 $$", "", Ended{Status: 137, Signal: 9}},
		{"echo a; kill -TERM $$", "a\n", Ended{Status: 143, Signal: 15}},
		{"(sleep 0.05; echo late) & exit 1", "late\n", Ended{Status: 1}},
	} {
		t.Run(c.script, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.started(c.script)
			got := w.finish()
			if got.Time == 0 {
				t.Error("no time")
			}
			got.Time = 0
			if got != c.want {
				t.Errorf("ended: %+v, want %+v", got, c.want)
			}
			if out := w.logged(); string(out[0]) != c.out {
				t.Errorf("log: %q, want %q", out[0], c.out)
			}
		})
	}
}

// Whoever is not the parent reads the file exit.
func TestEndByFile(t *testing.T) {
	w := newWorld(t)
	w.begin("sh", "-c", "echo a; exec sleep 1000")
	w.until("it has written", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(w.orders.PID) + "/comm")
		return string(b) == "sleep\n"
	})
	w.must(os.WriteFile(filepath.Join(w.folder, ExitName), []byte{42}, 0o600))
	w.must(w.command.Process.Kill())
	_ = w.command.Wait()
	w.keep()
	if e := w.finish(); e.Status != 42 || e.Unknown {
		t.Errorf("ended: %+v", e)
	}
	if out := w.logged(); string(out[0]) != "a\n" {
		t.Errorf("log: %q", out[0])
	}
}

// A zombie that nobody has reaped tells, too.
func TestEndOfZombie(t *testing.T) {
	w := newWorld(t)
	w.begin("sh", "-c", "exit 7")
	w.until("the command has ended", func() bool { s := readStat(w.orders.PID); return len(s) > 0 && s[0] == "Z" })
	w.keep()
	if e := w.finish(); e.Status != 7 || e.Unknown {
		t.Errorf("ended: %+v", e)
	}
}

// A number that another process has now is not the container.
func TestAnotherProcess(t *testing.T) {
	w := newWorld(t)
	w.begin("sh", "-c", "exec sleep 1000")
	w.orders.Start++
	w.must(w.orders.Write(w.folder))
	w.keep()
	if e := w.finish(); !e.Unknown || e.Status != 255 {
		t.Errorf("ended: %+v", e)
	}
}

func TestUnreadableOrders(t *testing.T) {
	w := newWorld(t)
	w.must(os.WriteFile(filepath.Join(w.folder, OrdersName), []byte("corten orders 2\n"), 0o600))
	c := w.program()
	c.Stderr = nil
	out, err := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "newer") {
		t.Errorf("%v: %s", err, out)
	}
}

// Input goes on while clients come and go, and ends when the keeper is told so.
func TestStdin(t *testing.T) {
	w := newWorld(t)
	w.begin("cat")
	w.keep()
	w.until("the keeper looks after it", func() bool { return w.catches() })
	w.must(w.stdin.Close())
	w.stdin = nil
	for _, s := range []string{"one\n", "two\n"} {
		f, err := os.OpenFile(filepath.Join(w.folder, StdinName), os.O_WRONLY, 0)
		w.must(err)
		_, err = f.WriteString(s)
		w.must(err, f.Close())
	}
	w.until("both lines are logged", func() bool { return string(w.logged()[0]) == "one\ntwo\n" })
	w.must(w.keeper.Process.Signal(unix.SIGTERM)) // means nothing
	w.must(w.keeper.Process.Signal(unix.SIGUSR1))
	w.must(w.command.Wait())
	w.finish()
	if _, err := os.Stat(filepath.Join(w.folder, StdinName)); err == nil {
		t.Error("stdin still has its name")
	}
}

// Input whose end came before the keeper caught signals ends: its name is gone.
func TestStdinEndedBefore(t *testing.T) {
	w := newWorld(t)
	w.begin("cat")
	in, err := os.OpenFile(filepath.Join(w.folder, StdinName), os.O_WRONLY, 0)
	w.must(err)
	w.keeper = w.program()
	w.keeper.ExtraFiles = append(w.keeper.ExtraFiles, nil, nil, in) // as one that was its launcher
	w.must(os.Remove(filepath.Join(w.folder, StdinName)), w.stdin.Close(), w.keeper.Start(), in.Close())
	w.stdin = nil
	ended := make(chan error, 1)
	go func() { ended <- w.command.Wait() }()
	select {
	case err := <-ended:
		w.must(err)
	case <-time.After(90 * time.Second):
		_ = w.command.Process.Kill()
		t.Fatal("input did not end", <-ended)
	}
	w.finish()
}

// A prompt is in the log before its line ends, and files are given up when they are too many.
func TestPromptAndOrders(t *testing.T) {
	w := newWorld(t)
	w.begin("sh", "-c", "printf 'name? '; read x; echo $x; head -c 300000 /dev/zero | tr '\\0' '\\n'; read x")
	w.keep()
	w.until("the prompt is logged", func() bool { return string(w.logged()[0]) == "name? " })
	w.until("the keeper looks after it", func() bool { return w.catches() })
	w.orders.Log.Size, w.orders.Log.Files, w.orders.Log.Compress = 100_000, 3, true
	w.must(w.orders.Write(w.folder), w.keeper.Process.Signal(unix.SIGUSR2))
	time.Sleep(50 * time.Millisecond) // there is nothing to see when it has read them
	_, err := w.stdin.WriteString("x\n")
	w.must(err)
	w.until("files are begun and removed", func() bool {
		list, err := logs.Files(w.log)
		return err == nil && len(list) == 3 && list[2].N > 100
	})
	w.until("they are compressed", func() bool { return strings.Contains(w.calls(), "keep compress "+w.log+"\n") })
	_, err = w.stdin.WriteString("x\n")
	w.must(err)
	_ = w.command.Wait()
	w.finish()
}

// The health is checked so often that the keeper executes itself anew in between.
func TestHealthIsChecked(t *testing.T) {
	w := newWorld(t)
	w.orders.Health = HealthOrders{Interval: 1e6}
	w.begin("sleep", "1000")
	w.keep()
	times := enough + 10
	if testing.Short() {
		times = 3
	}
	w.until("it is checked", func() bool { return strings.Count(w.calls(), "keep probe c1\n") >= times })
	w.must(w.command.Process.Kill())
	_ = w.command.Wait()
	if e := w.finish(); e.Status != 137 && !e.Unknown {
		t.Errorf("ended: %+v", e)
	}
}

func TestRest(t *testing.T) {
	w := newWorld(t)
	w.must(w.orders.Write(w.folder), WriteRest(w.folder, time.Now().UnixNano()+5e6))
	rest := func() *exec.Cmd {
		c := w.program()
		c.Args = []string{c.Args[0], "rest", w.root, w.run, w.id}
		w.must(c.Start())
		w.keeper = c
		return c
	}
	w.must(rest().Wait())
	if got := w.calls(); got != "keep start c1\n" {
		t.Errorf("corten was called for %q", got)
	}
	w.must(WriteRest(w.folder, time.Now().UnixNano()+3600e9))
	c := rest()
	w.until("it rests", func() bool {
		null, _ := os.Readlink("/proc/" + itoa(c.Process.Pid) + "/fd/2")
		return null == "/dev/null"
	})
	w.must(os.WriteFile(filepath.Join(w.folder, StopName), nil, 0o600), c.Process.Signal(unix.SIGTERM), c.Wait())
	if got := w.calls(); got != "keep start c1\nkeep end c1\n" {
		t.Errorf("corten was called for %q", got)
	}
	w.must(os.Remove(filepath.Join(w.folder, StopName)))
	c = rest()
	w.until("it rests", func() bool {
		null, _ := os.Readlink("/proc/" + itoa(c.Process.Pid) + "/fd/2")
		return null == "/dev/null"
	})
	w.must(c.Process.Signal(unix.SIGTERM), c.Wait()) // a user does not want to wait
	if got := w.calls(); got != "keep start c1\nkeep end c1\nkeep start c1\n" {
		t.Errorf("corten was called for %q", got)
	}
}

// TestRestLeft sets the clock back and forward meanwhile.
func TestRestLeft(t *testing.T) {
	const now = int64(1763726400e9)
	for _, c := range []struct{ until, want int64 }{
		{now + 5e9, 5e9}, {now, 0}, {now - 3600e9, 0}, {0, 0}, // forward
		{now + 3600e9, 60e9}, {1<<63 - 1, 60e9}, // back
	} {
		if got := restLeft(c.until, now); got != c.want {
			t.Errorf("until %d: %d, want %d", c.until, got, c.want)
		}
	}
}
