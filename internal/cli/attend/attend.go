package attend

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// guest is a running container as the one sees it who attends to it.
type guest struct {
	terminal *os.File // the master side, ours to close; nil if it has none
	hangup   func()   // closes every other descriptor of it
	stdin    bool     // the terminal gets our input
	signal   func(unix.Signal) error
	wait     func() (engine.Exit, error)
	tee      func(io.Writer) io.Writer // what the terminal's output passes through; nil: nothing
}

// errLeft says that the user typed the keys to leave.
var errLeft = errors.New("left")

// attend stays with a container until it ends: it passes signals on, and copies between the
// user's terminal and the container's if that has one.
func (a *attendant) attend(w *watch, g guest) (engine.Exit, error) { return a.attendUntil(w, g, "") }

// attendUntil is attend until these keys are typed, if the terminal gets our input; empty: none.
func (a *attendant) attendUntil(w *watch, g guest, keys string) (engine.Exit, error) {
	if g.terminal == nil {
		w.started(func(s unix.Signal) { w.pass(g, s) })
		return g.wait()
	}
	t := &terminals{user: a.env.Stdin, guest: g.terminal, size: a.terminalSize}
	defer t.restore()
	if g.stdin {
		if err := t.raw(); err != nil {
			return engine.Exit{}, errs.Wrap("prepare terminal", "", err)
		}
	}
	w.started(func(s unix.Signal) { t.signal(w, g, s) })
	defer w.over() // before the terminal is restored, else a late signal could undo that
	t.resize()
	over, ended, err := os.Pipe()
	if err != nil {
		return engine.Exit{}, errs.Wrap("make pipe", "", err)
	}
	defer over.Close()
	left := make(chan struct{})
	if g.stdin {
		go func() {
			defer t.restoreOnPanic()
			if copyInput(g.terminal, a.env.Stdin, keys, keys != "") {
				close(left)
			}
		}()
	}
	var end struct {
		exit engine.Exit
		err  error
	}
	copied, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer t.restoreOnPanic()
		defer close(copied)
		out := io.Writer(a.env.Stdout)
		if g.tee != nil {
			out = g.tee(out)
		}
		if err := copyTerminal(out, g.terminal, over); err != nil {
			// Nobody reads it any more. A terminal says that by hanging up.
			_ = g.terminal.Close()
			g.hangup()
		}
	}()
	go func() {
		defer t.restoreOnPanic()
		end.exit, end.err = g.wait()
		_ = ended.Close()
		<-copied
		close(done)
	}()
	select {
	case <-done:
		return end.exit, end.err
	case <-left:
		return engine.Exit{}, errLeft
	}
}

// own makes a descriptor of the container's terminal that is ours: the engine closes its own
// when the container has ended, and there may be output left.
func own(terminal *os.File) (*os.File, error) {
	if terminal == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(terminal.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("keep terminal", "", err)
	}
	return os.NewFile(uintptr(fd), terminal.Name()), nil
}

// pass sends a signal on. It is no error if the container has just ended.
func (w *watch) pass(g guest, s unix.Signal) {
	if !w.proxy {
		return
	}
	_ = g.signal(s)
	if s == unix.SIGTSTP { // the shell expects the one it started to stop
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	}
}

// terminals are the user's terminal, which is raw while the container has it, and the
// container's.
type terminals struct {
	user, guest *os.File
	size        func() *spec.Size

	mu     sync.Mutex
	state  *term.State // what the user's was before; nil: it is not raw
	paused bool        // stopped by SIGTSTP; to be raw again afterwards
}

// raw lets every key through to the container, ^C and ^Z too.
func (t *terminals) raw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := term.MakeRaw(int(t.user.Fd()))
	if t.state == nil {
		t.state = state
	}
	return err
}

func (t *terminals) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		_ = term.Restore(int(t.user.Fd()), t.state)
		t.state = nil
	}
}

func (t *terminals) restoreOnPanic() {
	if p := recover(); p != nil {
		t.restore()
		panic(p)
	}
}

func (t *terminals) isRaw() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state != nil
}

// resize gives the container's terminal the size of the user's; the kernel tells the
// processes in it.
func (t *terminals) resize() {
	if s := t.size(); s != nil {
		_ = unix.IoctlSetWinsize(int(t.guest.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Columns})
	}
}

// signal answers a signal that came while the container has the terminal.
func (t *terminals) signal(w *watch, g guest, s unix.Signal) {
	switch s {
	case unix.SIGWINCH:
		t.resize()
	case unix.SIGPIPE:
		// The write that caused it returns an error.
	case unix.SIGTSTP:
		t.paused = t.isRaw()
		t.restore()
		w.pass(g, s)
	case unix.SIGCONT:
		if t.paused || t.isRaw() { // SIGSTOP came unannounced, and the shell has changed the terminal
			_ = t.raw()
		}
		t.paused = false
		t.resize()
		w.pass(g, s)
	default:
		if !w.proxy {
			t.restore()
			dieOf(s)
		}
		w.pass(g, s)
	}
}

// copyTerminal copies what the container writes to its terminal until over is closed, and
// then what is left. Its error is that of writing to out.
//
// A terminal that nobody has open reads as an error, even if somebody will open it again: so
// we keep it open as long as the container runs.
func copyTerminal(out io.Writer, master, over *os.File) error {
	const linger = 100 // ms without output, after which a process that survived the container is let go
	ptm := int(master.Fd())
	// Flags 0 open it for reading (Linux 4.13). It cannot become our controlling terminal,
	// since it is the container's already.
	keep, err := unix.IoctlRetInt(ptm, unix.TIOCGPTPEER)
	if err == nil {
		unix.CloseOnExec(keep)
	}
	wait, buf := -1, make([]byte, 32<<10)
	fds := []unix.PollFd{{Fd: int32(ptm), Events: unix.POLLIN}, {Fd: int32(over.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, wait)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return nil
		case len(fds) == 2 && fds[1].Revents != 0:
			if keep >= 0 {
				_ = unix.Close(keep)
			}
			fds, wait = fds[:1], linger
			continue
		}
		n, err = master.Read(buf)
		if _, err := out.Write(buf[:n]); err != nil {
			return err
		}
		if err != nil {
			return nil // the last one has closed it
		}
	}
}
