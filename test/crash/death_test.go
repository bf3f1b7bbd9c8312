package crash_test

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// live is a container that runs, as the one sees it who started the command.
type live struct {
	w    *world
	cmd  *exec.Cmd
	out  *bufio.Reader
	said func() string
	pids []int // of the container, once it is up
}

// live starts a container, and waits until it says "up".
func (w *world) live(flags []string, script string) *live {
	w.t.Helper()
	args := append(append([]string{"run"}, flags...), "host", "sh", "-c", script)
	l := &live{w: w, cmd: w.corten(args...)}
	l.said = w.listen(l.cmd)
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if l.cmd.ProcessState == nil { // the test failed before
			_ = l.cmd.Process.Kill()
			_ = l.cmd.Wait()
		}
	})
	l.expect("up")
	for _, id := range names(filepath.Join(w.run, "active")) {
		for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer"} {
			l.pids = append(l.pids, numbers(filepath.Join(dir, "corten", id, "cgroup.procs"))...)
		}
	}
	return l
}

// expect reads the container's next line.
func (l *live) expect(want string) {
	l.w.t.Helper()
	line, err := l.out.ReadString('\n')
	if strings.TrimRight(line, "\r\n") != want {
		l.w.t.Fatalf("the container says %q, want %q (%v)\n%s", line, want, err, l.said())
	}
}

// wait returns the command's status.
func (l *live) wait() syscall.WaitStatus {
	l.w.t.Helper()
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// init is the number of corten-init, which is executed beside the command: that may be up first.
func (l *live) init() int {
	l.w.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, pid := range l.pids {
			if b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm")); string(b) == "corten-init\n" {
				return pid
			}
		}
	}
	l.w.t.Fatalf("no corten-init in %v", l.pids)
	return 0
}

func numbers(file string) []int {
	b, _ := os.ReadFile(file)
	var list []int
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// scripts are commands that an end of their PID 1 might miss.
func scripts() map[string]string {
	return map[string]string{
		"plain":         "echo up; sleep 1000",
		"ignores":       "trap '' HUP INT QUIT TERM; echo up; while :; do sleep 1000; done",
		"another user":  "echo up; exec setpriv --reuid 1000 --regid 1000 --clear-groups sleep 1000",
		"daemons":       "setsid sh -c 'sleep 1000 & setsid sleep 1000 & exit' & echo up; sleep 1000",
		"forks forever": "f() { (f & ) ; sleep 0.01; }; f 2>/dev/null & echo up; sleep 1000",
	}
}

// TestCommandKilled kills the command while its container runs: the kernel ends that too.
func TestCommandKilled(t *testing.T) {
	for _, flags := range [][]string{{"--rm"}, {"--rm", "--no-init"}, {"--rm", "-t"}, {"--name", "kept", "--pids-limit", "100"}, {"--rm", "--pid", "host"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			for name, script := range scripts() {
				t.Run(name, func(t *testing.T) {
					w := newWorld(t)
					l := w.live(slices.Concat(flags, []string{"--pids-limit", "100"}), script)
					if err := l.cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					l.wait()
					// A signal on the launcher's death reaches its child, and is forgotten by one that
					// changes its user (prctl(2) PR_SET_PDEATHSIG). What it does not reach the next
					// command finds by control group.
					alone := slices.Contains(flags, "host") || slices.Contains(flags, "--no-init") && name == "another user"
					if !alone && !w.ends() {
						return
					}
					w.sweep()
					if w.ends() {
						if slices.Contains(flags, "kept") {
							w.clean("killed", "kept")
							return
						}
						w.clean("killed")
					}
				})
			}
		})
	}
}

// TestContainerKilled kills in the container, from outside.
func TestContainerKilled(t *testing.T) {
	kill := func(pids ...int) {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	for name, victim := range map[string]func(*live){
		"init": func(l *live) { kill(l.init()) },
		"all":  func(l *live) { kill(l.pids...) },
		"command": func(l *live) {
			init := l.init()
			kill(slices.DeleteFunc(l.pids, func(p int) bool { return p == init })...)
		},
		"group": func(l *live) {
			for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
				groups, _ := filepath.Glob(dir + "/corten/*/cgroup.kill")
				for _, f := range groups {
					if err := os.WriteFile(f, []byte("1"), 0); err != nil {
						l.w.t.Fatal(err)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := w.live([]string{"--rm"}, scripts()["daemons"])
			victim(l)
			if ws := l.wait(); ws.ExitStatus() != 137 {
				t.Errorf("status %d\n%s", ws.ExitStatus(), l.said())
			}
			w.ends()
			w.clean("at once")
		})
	}
}

// TestSignals passes on what asks a program to do something, and stops and goes on.
func TestSignals(t *testing.T) {
	const script = "for s in HUP INT QUIT TERM USR1 CONT; do trap \"echo $s\" $s; done; trap 'exit 3' USR2; echo up; while :; do sleep 0.01; done"
	for _, flags := range [][]string{{"--rm"}, {"--rm", "--no-init"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			w := newWorld(t)
			l := w.live(flags, script)
			l.forwards()
			for _, s := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1} {
				if err := l.cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
				l.expect(strings.TrimPrefix(unix.SignalName(s), "SIG"))
			}
			stopped(t, l.cmd.Process.Pid, unix.SIGSTOP, true)
			stopped(t, l.cmd.Process.Pid, unix.SIGCONT, false)
			l.expect("CONT")
			stopped(t, l.cmd.Process.Pid, unix.SIGTSTP, true) // as ^Z does
			stopped(t, l.cmd.Process.Pid, unix.SIGCONT, false)
			l.expect("CONT")
			_ = l.cmd.Process.Signal(unix.SIGUSR2)
			if ws := l.wait(); ws.ExitStatus() != 3 {
				t.Errorf("status %d\n%s", ws.ExitStatus(), l.said())
			}
			w.ends()
			w.clean("at once")
		})
	}
}

// forwards waits until the command passes signals on: it asks for them only once its
// container has run for a while. SIGCONT can be asked for at any time.
func (l *live) forwards() {
	l.w.t.Helper()
	heard := make(chan bool)
	go func() {
		for {
			_ = l.cmd.Process.Signal(unix.SIGCONT)
			select {
			case <-heard:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	l.expect("CONT")
	heard <- true
	// A shell that finds two signals at once tells of the lower one first: only after the second
	// USR1 is no CONT left.
	for range 2 {
		_ = l.cmd.Process.Signal(unix.SIGUSR1)
		for line := ""; strings.TrimSpace(line) != "USR1"; {
			var err error
			if line, err = l.out.ReadString('\n'); err != nil {
				l.w.t.Fatal(err)
			}
		}
	}
}

// stopped sends a signal and waits until the process is stopped, or is no more.
func stopped(t *testing.T, pid int, sig syscall.Signal, want bool) {
	t.Helper()
	_ = unix.Kill(pid, sig)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && (rest[0] == 'T') == want {
			return
		}
	}
	t.Fatalf("after %v: not as it should be", sig)
}

// TestNobodyReads closes the command's stdout.
func TestNobodyReads(t *testing.T) {
	for _, flags := range [][]string{{"--rm"}, {"--rm", "--no-init"}, {"--rm", "-t"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			w := newWorld(t)
			cmd := w.corten(append(append([]string{"run"}, flags...), "host", "yes")...)
			said := w.listen(cmd)
			r, wr, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = wr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wr.Close()
			if _, err := r.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			_ = cmd.Wait()
			// The pipe breaks, which as PID 1 it sees as an error; or the terminal is hung up, which
			// it hears of by the signal or, if it was writing just then, by an error.
			want := map[string]int{"--no-init": 1, "-t": 128 + int(unix.SIGHUP)}[flags[len(flags)-1]]
			code := cmd.ProcessState.ExitCode()
			if code != cmp.Or(want, 128+int(unix.SIGPIPE)) && !(flags[len(flags)-1] == "-t" && code == 1) {
				t.Errorf("status %d\n%s", code, said())
			}
			w.ends()
			w.clean("at once")
		})
	}
}

// terminal makes a terminal that is the command's stdin, stdout and stderr. What it shows
// is thrown away.
func terminal(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ptm.Close() })
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	pts, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pts.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pts, pts, pts
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := ptm.Read(buf); err != nil {
				return
			}
		}
	}()
}

// TestLeftWriters has the main process end while others, outside of any pid namespace, hold
// on to the pipe to the user's terminal.
func TestLeftWriters(t *testing.T) {
	w := newWorld(t)
	cmd := w.corten("run", "--rm", "--pid", "host", "host", "sh", "-c", "sleep 1000 & exit 3")
	terminal(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !late.Stop() || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("ended as %v", cmd.ProcessState)
		w.sweep()
	}
	w.ends()
	w.clean("at once")
}

// TestInterruptions sends signals to every thread during starts.
func TestInterruptions(t *testing.T) {
	w := newWorld(t)
	for _, s := range starts() {
		for range 2 {
			if s.kept || s.image {
				continue // they have nothing of their own to be interrupted
			}
			cmd := w.command(s, "same")
			said := w.listen(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pid, over := cmd.Process.Pid, make(chan bool)
			go func() {
				defer close(over)
				tasks := fmt.Sprintf("/proc/%d/task", pid)
				for sent := true; sent; {
					sent = false
					for _, n := range names(tasks) {
						tid, _ := strconv.Atoi(n)
						// Go's runtime catches it, and expects it at any time.
						sent = unix.Tgkill(pid, tid, unix.SIGURG) == nil || sent
					}
				}
			}()
			_ = cmd.Wait()
			<-over
			if cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("%s: %v\n%s", s.name, cmd.ProcessState, said())
			}
		}
	}
	w.ends()
	w.clean("at once")
}
