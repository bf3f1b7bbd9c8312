package attend

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// openPTY opens a terminal: the side that a user or we read, and the side that programs have.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// desk is a user at a terminal and a program at another, which stands for a container.
type desk struct {
	t      *testing.T
	keys   *os.File // the user's side of the user's terminal
	tty    *os.File // corten's side of it
	app    *attendant
	watch  *watch
	before unix.Termios
	seen   bytes.Buffer // what the user has seen
	end    chan ending
}

type ending struct {
	exit engine.Exit
	err  error
}

// sit runs a shell script as the guest and attends to it. The user's terminal is raw once
// the script has written something that the user sees.
func sit(t *testing.T, stdin, proxy bool, script string) *desk {
	t.Helper()
	d := &desk{t: t, end: make(chan ending, 1)}
	d.keys, d.tty = openPTY(t)
	d.before = d.modes()
	master, slave := openPTY(t)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	d.app = &attendant{env: shell.Env{Stdin: d.tty, Stdout: d.tty, Stderr: os.Stderr}}
	d.watch = watchSignals(proxy, true)
	d.watch.until(t.Context())
	t.Cleanup(func() { signal.Stop(d.watch.signals) })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		e, err := d.app.attend(d.watch, guest{master, func() {}, stdin, func(s unix.Signal) error { return cmd.Process.Signal(s) }, func() (engine.Exit, error) {
			err := cmd.Wait()
			var x *exec.ExitError
			if err == nil || errors.As(err, &x) {
				st := cmd.ProcessState.Sys().(syscall.WaitStatus)
				if st.Signaled() {
					return engine.Exit{Code: 128 + int(st.Signal()), Signal: st.Signal()}, nil
				}
				return engine.Exit{Code: st.ExitStatus()}, nil
			}
			return engine.Exit{}, err
		}, nil})
		d.end <- ending{e, err}
	}()
	return d
}

func (d *desk) modes() unix.Termios {
	d.t.Helper()
	m, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
	if err != nil {
		d.t.Fatal(err)
	}
	return *m
}

func (d *desk) isRaw() bool { return d.modes().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 }

func (d *desk) typing(s string) {
	d.t.Helper()
	if _, err := d.keys.WriteString(s); err != nil {
		d.t.Fatal(err)
	}
}

// sees reads the user's screen until it has shown text.
func (d *desk) sees(text string) {
	d.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(d.seen.String(), text) {
		n, err := d.keys.Read(buf)
		d.seen.Write(buf[:n])
		if err != nil {
			d.t.Fatalf("the terminal showed %q and then %v; want %q", d.seen.String(), err, text)
		}
	}
}

// leaves waits for the end and expects the terminal as it was.
func (d *desk) leaves(code int) {
	d.t.Helper()
	r := <-d.end
	if r.err != nil || r.exit.Code != code {
		d.t.Errorf("ended with %+v %v, want %d", r.exit, r.err, code)
	}
	if d.modes() != d.before {
		d.t.Errorf("the terminal is not as it was:\n%+v\n%+v", d.before, d.modes())
	}
}

func TestTerminalIsRawAndRestored(t *testing.T) {
	d := sit(t, true, true, "echo ready; exec cat")
	d.sees("ready\r\n")
	if !d.isRaw() {
		t.Error("the terminal is not raw")
	}
	d.typing("hello\r")
	d.sees("hello\r\nhello\r\n") // the echo of the container's terminal, then cat
	d.typing("\x04")
	d.leaves(0)
}

// Keys that are signals reach the container's own terminal, which makes signals of them
// there.
func TestKeysAreSignalsInside(t *testing.T) {
	d := sit(t, true, true, `trap 'echo interrupted; exit 5' INT; echo ready; while :; do read x; done`)
	d.sees("ready")
	d.typing("\x03")
	d.sees("interrupted")
	d.leaves(5)
}

func TestWithoutInputTheTerminalStays(t *testing.T) {
	d := sit(t, false, true, "echo ready; exec cat")
	d.sees("ready")
	if d.isRaw() {
		t.Error("the terminal is raw although nothing is read from it")
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.leaves(128 + int(unix.SIGTERM))
}

func TestSignalsArePassedOn(t *testing.T) {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, 40} {
		d := sit(t, true, true, "ulimit -c 0; echo ready; exec cat")
		d.sees("ready")
		if err := unix.Kill(unix.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		d.leaves(128 + int(s))
	}
}

func TestResize(t *testing.T) {
	d := sit(t, true, true, `trap 'stty size; exit 0' WINCH; echo ready; while :; do read x; done`)
	d.sees("ready")
	if err := unix.IoctlSetWinsize(int(d.keys.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 41, Col: 123}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil { // we are no job of that terminal
		t.Fatal(err)
	}
	d.sees("41 123")
	d.leaves(0)
}

// All that was written before the end is seen, however much it is.
func TestOutputIsDrained(t *testing.T) {
	d := sit(t, true, true, "seq 1 100000; echo the end")
	d.sees("99999\r\n100000\r\nthe end\r\n")
	d.leaves(0)
	if n := strings.Count(d.seen.String(), "\n"); n != 100001 {
		t.Errorf("%d lines of 100001", n)
	}
}

// A process that keeps the terminal open after the end does not keep us.
func TestSurvivorsAreLeftAlone(t *testing.T) {
	d := sit(t, true, true, "trap '' HUP; sleep 100 & echo child $!; echo last words")
	d.sees("last words\r\n")
	d.leaves(0)
	_, after, _ := strings.Cut(d.seen.String(), "child ")
	pid, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Error("the child was killed:", err)
	}
}

// A container may close its terminal for a while and open it again.
func TestTerminalMayBeClosedForAWhile(t *testing.T) {
	d := sit(t, true, true, `echo before; exec <&- >&- 2>&-; true; (true); exec >/dev/tty; echo after`)
	d.sees("before\r\nafter\r\n")
	d.leaves(0)
}

// If nobody reads the output any more the container is told so as a terminal tells it: it
// hangs up.
func TestOutputGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d := &desk{t: t}
	_, d.tty = openPTY(t)
	master, slave := openPTY(t)
	cmd := exec.Command("/bin/sh", "-c", "while :; do echo more; done")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	d.app = &attendant{env: shell.Env{Stdin: d.tty, Stdout: w, Stderr: os.Stderr}}
	d.watch = watchSignals(true, true)
	d.watch.until(t.Context())
	defer signal.Stop(d.watch.signals)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, 100))
		r.Close()
	}()
	_, err = d.app.attend(d.watch, guest{master, func() {}, true, func(s unix.Signal) error { return cmd.Process.Signal(s) }, func() (engine.Exit, error) {
		_ = cmd.Wait()
		return engine.Exit{}, nil
	}, nil})
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil || st.Signal() != unix.SIGHUP {
		t.Error(err, cmd.ProcessState)
	}
}

func TestRestoreOnPanic(t *testing.T) {
	d := &desk{t: t}
	_, d.tty = openPTY(t)
	d.before = d.modes()
	term := &terminals{user: d.tty}
	if err := term.raw(); err != nil {
		t.Fatal(err)
	}
	if !d.isRaw() {
		t.Error("not raw")
	}
	func() {
		defer func() { _ = recover() }()
		defer term.restoreOnPanic()
		panic("a bug")
	}()
	if d.modes() != d.before {
		t.Error("not restored")
	}
}

// Before the start the first signal that asks for an end cancels, and what else came is
// passed on afterwards.
func TestSignalsBeforeTheStart(t *testing.T) {
	w := watchSignals(true, false)
	ctx := w.until(t.Context())
	defer signal.Stop(w.signals)
	w.take(unix.SIGUSR1)
	if ctx.Err() != nil || w.endedBy() != 0 {
		t.Error("SIGUSR1 canceled the start")
	}
	w.take(unix.SIGTERM)
	if ctx.Err() == nil || w.endedBy() != unix.SIGTERM {
		t.Error("SIGTERM did not cancel the start")
	}
	var got []unix.Signal
	w.started(func(s unix.Signal) { got = append(got, s) })
	w.take(unix.SIGUSR2)
	if len(got) != 3 || got[0] != unix.SIGUSR1 || got[1] != unix.SIGTERM || got[2] != unix.SIGUSR2 {
		t.Error(got)
	}
}

func TestForwarded(t *testing.T) {
	has := map[os.Signal]bool{}
	for _, s := range forwarded() {
		has[s] = true
	}
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGCONT, unix.SIGTSTP,
		unix.SIGALRM, 34, 64} {
		if !has[s] {
			t.Errorf("%v is not passed on", s)
		}
	}
	for _, s := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU, unix.SIGSEGV} {
		if has[s] {
			t.Errorf("%v is passed on", s)
		}
	}
}

// What nohup(1) or a shell without job control has ignored stays ignored.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	for _, s := range append(forwarded(), heeded(unix.SIGXFSZ)...) {
		if s == unix.SIGXFSZ {
			t.Error("an ignored signal is received")
		}
	}
}
