package main

import (
	"bytes"
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

// user sits at a terminal and has started corten there.
type user struct {
	t      *testing.T
	screen *os.File // the user's side of the terminal
	tty    *os.File // corten's side
	before unix.Termios
	seen   bytes.Buffer
	pid    int
	env    []string // of corten: the state folders
}

// start runs corten in a session of its own at a new terminal of 33 lines of 77 characters.
func start(t *testing.T, args ...string) *user {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root for now")
	}
	if args[0] == "run" { // what connects a container may still be at work when the test is over
		args = slices.Insert(slices.Clone(args), 1, "--network", "none")
	}
	u := &user{t: t}
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	u.screen = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { u.screen.Close() })
	u.check(u.screen.SetReadDeadline(time.Now().Add(time.Minute))) // a hang says what was seen
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	u.check(err)
	u.check(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	u.tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	u.check(err)
	t.Cleanup(func() { u.tty.Close() })
	u.check(unix.IoctlSetWinsize(int(u.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}))
	u.before = u.modes()

	state, dir := t.TempDir(), os.Getenv(programs)
	u.env = append(os.Environ(), "CORTEN_ROOT="+state+"/root", "CORTEN_RUN="+state+"/run")
	u.pid, err = syscall.ForkExec(filepath.Join(dir, "corten"), append([]string{"corten"}, args...), &syscall.ProcAttr{
		Env:   u.env,
		Files: []uintptr{u.tty.Fd(), u.tty.Fd(), u.tty.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	})
	u.check(err)
	t.Cleanup(func() {
		if u.pid != 0 {
			_ = unix.Kill(u.pid, unix.SIGKILL)
			u.wait(0)
		}
		u.leavesNothing()
	})
	return u
}

// leavesNothing runs the next command, which clears up after one that a signal has ended. The
// state folders go with the test, and then nobody could.
func (u *user) leavesNothing() {
	u.t.Helper()
	cmd := exec.Command(filepath.Join(os.Getenv(programs), "corten"), "ps", "-aq")
	cmd.Env = u.env
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		u.t.Errorf("corten ps -aq afterwards: %v: %s", err, out)
	}
}

func (u *user) check(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) modes() unix.Termios {
	u.t.Helper()
	m, err := unix.IoctlGetTermios(int(u.tty.Fd()), unix.TCGETS)
	u.check(err)
	return *m
}

func (u *user) isRaw() bool { return u.modes().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 }

func (u *user) types(s string) {
	u.t.Helper()
	_, err := u.screen.WriteString(s)
	u.check(err)
}

// sees reads the screen until it has shown text.
func (u *user) sees(text string) {
	u.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(u.seen.String(), text) {
		n, err := u.screen.Read(buf)
		u.seen.Write(buf[:n])
		if err != nil {
			u.t.Fatalf("the screen showed %q and then %v; want %q", u.seen.String(), err, text)
		}
	}
}

// wait waits until corten ends or, with WUNTRACED, stops.
func (u *user) wait(options int) syscall.WaitStatus {
	var st syscall.WaitStatus
	for {
		_, err := syscall.Wait4(u.pid, &st, options, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			u.t.Error(err)
		}
		break
	}
	if !st.Stopped() {
		u.pid = 0
	}
	return st
}

// The terminal is raw while the container has it, and afterwards as it was, however the end
// comes about.
func TestTerminalAfterEachEnd(t *testing.T) {
	kill := func(s unix.Signal) func(*user) { return func(u *user) { u.check(unix.Kill(u.pid, s)) } }
	for _, x := range []struct {
		name  string
		flags string
		how   func(*user)
		code  int
		sig   syscall.Signal // that ends corten itself
	}{
		{"input ends", "", func(u *user) { u.types("\x04") }, 0, 0},
		{"as PID 1", "--no-init", func(u *user) { u.types("quit\r") }, 9, 0},
		{"SIGTERM passed on", "", kill(unix.SIGTERM), 143, 0},
		{"SIGHUP passed on", "", kill(unix.SIGHUP), 129, 0},
		{"SIGUSR1 passed on", "", kill(unix.SIGUSR1), 138, 0},
		{"SIGTERM for itself", "--sig-proxy=false", kill(unix.SIGTERM), 0, syscall.SIGTERM},
		{"SIGHUP for itself", "--sig-proxy=false", kill(unix.SIGHUP), 0, syscall.SIGHUP},
		{"SIGINT for itself", "--sig-proxy=false", kill(unix.SIGINT), 0, syscall.SIGINT},
	} {
		t.Run(x.name, func(t *testing.T) {
			args := append([]string{"run", "--rm", "-it"}, strings.Fields(x.flags)...)
			u := start(t, append(args, "host", "sh", "-c", `echo ready; while read line; do test "$line" = quit && exit 9; done`)...)
			u.sees("ready")
			if !u.isRaw() {
				t.Error("the terminal is not raw")
			}
			x.how(u)
			st := u.wait(0)
			if x.sig != 0 && st.Signal() != x.sig || x.sig == 0 && st.ExitStatus() != x.code {
				t.Errorf("ended by %v with %d, want %v, %d", st.Signal(), st.ExitStatus(), x.sig, x.code)
			}
			if u.modes() != u.before {
				t.Errorf("the terminal is not as it was:\n%+v\n%+v", u.before, u.modes())
			}
		})
	}
}

// An error before the start leaves the terminal alone.
func TestTerminalAfterAnError(t *testing.T) {
	u := start(t, "run", "--rm", "-it", "host", "no-such-command")
	if st := u.wait(0); st.ExitStatus() != 127 {
		t.Error(st.ExitStatus())
	}
	u.sees("hint: ")
	if u.modes() != u.before {
		t.Error("the terminal is not as it was")
	}
}

// The container's terminal takes the size of the user's, and follows it.
func TestTerminalSize(t *testing.T) {
	u := start(t, "run", "--rm", "-it", "host", "sh", "-c", `while test "$(stty size)" = "0 0"; do :; done; stty size
		trap 'stty size; exit' WINCH; echo ready; while :; do read x; done`)
	u.sees("33 77\r\n")
	u.sees("ready")
	u.check(unix.IoctlSetWinsize(int(u.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 88}))
	u.sees("44 88\r\n")
	u.wait(0)
}

// A shell inside can stop its jobs, and has the terminal again.
func TestJobControlInside(t *testing.T) {
	u := start(t, "run", "--rm", "-it", "-e", "PS1=% ", "host", "bash", "--norc", "--noprofile")
	u.sees("% ")
	u.types("(echo sl''eeping; exec sleep 1000)\r") // the words come from the job, so it has the terminal
	u.sees("sleeping")
	u.types("\x1a")
	u.sees("Stopped")
	u.types("kill -9 %1; exec sh -c 'exit 4'\r")
	if st := u.wait(0); st.ExitStatus() != 4 {
		t.Errorf("%d, after %q", st.ExitStatus(), u.seen.String())
	}
}

// Stopped from outside corten leaves the terminal in order, and takes it again when it goes
// on.
func TestStopAndContinue(t *testing.T) {
	u := start(t, "run", "--rm", "-it", "host", "sh", "-c", `trap 'echo going on' CONT; trap '' TSTP; echo ready
		while :; do read x && { test "$x" = quit && exit 8; echo "got $x"; }; done`)
	u.sees("ready")
	u.check(unix.Kill(u.pid, unix.SIGTSTP))
	if st := u.wait(syscall.WUNTRACED); !st.Stopped() || u.modes() != u.before {
		t.Errorf("stopped %v, raw %v", st.Stopped(), u.isRaw())
	}
	u.check(unix.Kill(u.pid, unix.SIGCONT))
	u.sees("going on")
	u.types("a line\r")
	u.sees("got a line")
	if !u.isRaw() {
		t.Error("not raw again")
	}
	u.types("quit\r")
	if st := u.wait(0); st.ExitStatus() != 8 || u.modes() != u.before {
		t.Errorf("%d, as before %v", st.ExitStatus(), u.modes() == u.before)
	}
}
