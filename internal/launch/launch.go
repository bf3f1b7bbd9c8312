// Package launch makes plans true.
//
// Start executes the host steps and compiles the child steps into a table of system calls,
// which a new process walks up to its exec. The process is made by one clone3 and shares
// our memory and, at first, our descriptors: what the host side opens while the child waits
// is simply there for it. There is no message, no re-exec of ourselves and no Go code
// between clone and exec.
package launch

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/launch/compile"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
)

// Process is a started container process. Its parent is this process.
type Process struct {
	PID      int
	pidfd    *os.File
	Terminal *os.File // the master of its terminal, if the plan has OpenTerminal
}

// Env is what the caller adds to a plan.
type Env struct {
	Files      map[plan.Handle]*os.File // open for the child; they stay the caller's
	MakeGroups func() error             // executes the step plan.MakeGroups; undoing it is the caller's

	// Connect executes the step plan.Connect for the new process, and returns what waits for it to
	// be done; undoing it is the caller's.
	Connect func(pid int) (wait func() error, err error)

	// Meanwhile is called while the new process sets itself up, and should return soon after
	// busy says that it has; nil: we wait.
	Meanwhile func(busy func() bool)

	// Listener executes the step plan.HandOver for a process.
	Listener func(pid int, listener *os.File) error

	Hooks   func(pid int, inside bool) error // executes the step bundled.Hooks
	Note    func(mount uint64) error         // executes the step bundled.NoteRoot
	Devices func(pid int) error              // executes the step bundled.MoveDevices

	// Waits is told the process's number when all is done for it, before it is let go: if we
	// die before that, it does. nil: nobody wants to know.
	Waits func(pid int) error

	// Seeded is told after each plan.Seed, before the process may see the volume, and whether
	// there was anything to copy; nil: nobody wants to know.
	Seeded func(volume string, copied bool) error
}

// Start executes a plan. On an error nothing is left running or mounted.
func Start(p plan.Plan, env Env) (*Process, error) {
	h, err := begin(p, env)
	if h != nil {
		defer h.closeAll()
	}
	if err != nil {
		return nil, err
	}
	if env.Meanwhile != nil {
		env.Meanwhile(func() bool { return h.c.Settled(*h.proc) })
	}
	h.proc.Apart()
	h.close(plan.InitGate) // of which the command waits for the end, if PID 1 died
	h.c.KinApart()
	h.takeScore()
	if nest.Inside() {
		// Nobody shares our memory any more. The user's next command has to find our user namespace by
		// us or by the container, which has no rights over us in that.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		nest.Register(os.Getpid())
		nest.Register(h.proc.PID)
	}
	h.closeShared()
	proc := h.process()
	if err := h.failure(p); err != nil {
		_ = proc.Signal(unix.SIGKILL) // what is PID 1 by now would end by itself, when it sees fit
		_, _ = proc.Wait()
		_ = proc.Close()
		if proc.Terminal != nil {
			_ = proc.Terminal.Close()
		}
		return nil, err
	}
	return proc, nil
}

// begin executes the host steps. What is open is to be closed by the caller, also after an error.
func begin(p plan.Plan, env Env) (*host, error) {
	if err := p.Check(slices.Collect(maps.Keys(env.Files))...); err != nil {
		return nil, err
	}
	if err := nest.Settle(); err != nil {
		return nil, err
	}
	h := &host{fds: map[plan.Handle]int{}, release: -1, self: -1, stdio: stdioOf(p, env), env: env}
	if err := h.refuseFolders(); err != nil {
		return h, err
	}
	if err := h.prepare(p); err != nil {
		return h, err
	}
	for _, s := range p.Host {
		var err error
		switch s.(type) {
		case plan.Clone:
			if err = h.run(s); err == nil && h.c.Heirs() {
				err = h.inherit(p)
			}
		case bundled.Mounted, bundled.Held:
			err = h.held(p)
		default:
			err = h.run(s)
		}
		if err != nil {
			h.abandon()
			h.takeScore()
			if own := (*died)(nil); errors.As(err, &own) {
				return h, own.error
			}
			words, _, _ := strings.Cut(s.String(), "\n") // of those that go on line by line
			return h, errs.Wrap(words, "", err)
		}
	}
	return h, nil
}

// process is the new process, for the caller to keep.
func (h *host) process() *Process {
	proc := &Process{PID: h.proc.PID, pidfd: os.NewFile(uintptr(h.proc.PIDFD), "pidfd")}
	if ptm, ok := h.c.Terminal(); ok {
		proc.Terminal = os.NewFile(uintptr(ptm), "terminal")
	}
	return proc
}

// closeShared closes our copies of what the child opened while descriptors were shared:
// with its own end of the terminal still open here, the master would never see the end.
func (h *host) closeShared() {
	for _, fd := range h.c.Shared() {
		_ = unix.Close(fd)
	}
}

// prepare compiles the child side.
func (h *host) prepare(p plan.Plan) error {
	release, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return errs.Wrap("make eventfd", "", err)
	}
	h.fds["launch:release"], h.release = release, release
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return errs.Wrap("open own pidfd", "", err)
	}
	h.fds["launch:self"], h.self = self, self

	h.c, err = compile.Start(p.Child, h.given(), release, self)
	return err
}

// given is what the caller opened.
func (h *host) given() map[plan.Handle]int {
	fds := map[plan.Handle]int{}
	for name, f := range h.env.Files {
		fds[name] = int(f.Fd())
	}
	return fds
}

// abandon ends a child that still waits.
func (h *host) abandon() {
	if h.proc != nil {
		_ = unix.PidfdSendSignal(h.proc.PIDFD, unix.SIGKILL, nil, 0)
		p := &Process{PID: h.proc.PID, pidfd: os.NewFile(uintptr(h.proc.PIDFD), "pidfd")}
		_, _ = p.Wait()
		_ = p.Close()
	}
}

// failure tells whether the child, or the one that it made, ended before its exec, in the
// words of the step.
func (h *host) failure(p plan.Plan) error {
	if err := h.failed(p, &h.c.Out); err != nil {
		return err
	}
	return h.failed(p, &h.c.KinOut)
}

func (h *host) failed(p plan.Plan, out *rows.Outcome) error {
	switch {
	case out.Errno != 0:
		step := p.Child[h.c.Steps[out.Row]]
		err := unix.Errno(out.Errno)
		switch s := step.(type) {
		case plan.Exec:
			return ExecError(s.Args[0], err)
		case bundled.Find:
			if out.Eacces != 0 {
				err = unix.EACCES
			}
			return ExecError(s.Name, err)
		case plan.Label:
			return labelError(s, err)
		}
		return refused(step, err)
	case out.Row >= uintptr(len(h.c.Rows)):
		e, _ := p.Child[len(p.Child)-1].(plan.Exec)
		if out.Eacces != 0 {
			return ExecError(e.Args[0], unix.EACCES)
		}
		return ExecError(e.Args[0], unix.Errno(out.Last))
	}
	return nil
}

func labelError(s plan.Label, errno unix.Errno) error {
	err := errs.Wrap(s.String(), "", errno)
	switch {
	case s.Module != "apparmor":
		return errs.New(errs.KindOf(err), "", "", err).WithHint("the policy has no such label, or does not let this process take it: see ausearch -m avc")
	case errno == unix.ENOENT:
		return errs.New(errs.NotFound, "", "", err).WithHint("it is not loaded: apparmor_parser -r FILE loads it, and aa-status lists those that are")
	}
	return errs.New(errs.Denied, "", "", err).WithHint("this process has a profile itself that does not allow it: cat /proc/self/attr/current")
}

// ExecError says why a command could not be executed. Its kind is NotFound or Denied, from
// which a face makes 127 and 126.
func ExecError(name string, err unix.Errno) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR:
		x := errs.New(errs.NotFound, "execute", name, err)
		if !strings.Contains(name, "/") {
			return x.WithHint("no such command in the PATH of the container")
		}
		return x.WithHint("the file, or the interpreter that it names, is not in the container")
	case unix.ENOEXEC:
		return errs.New(errs.Denied, "execute", name, err).
			WithHint("the file is no program of this machine's architecture, or a script without #!")
	}
	return errs.New(errs.Denied, "execute", name, err)
}

// Adopt is a child of ours that somebody else has started for us.
func Adopt(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, errs.Wrap("open process", strconv.Itoa(pid), err)
	}
	return &Process{PID: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// Signal sends a signal to the process; ESRCH once it is gone.
func (p *Process) Signal(sig unix.Signal) error {
	return unix.PidfdSendSignal(int(p.pidfd.Fd()), sig, nil, 0)
}

// PIDFD is the descriptor that refers to the process, for another program to inherit.
func (p *Process) PIDFD() *os.File { return p.pidfd }

// Status is how a process ended.
type Status struct {
	Code   int         // exit code, if Signal is 0
	Signal unix.Signal // the signal that killed it
}

// Wait waits for the end of the process and reaps it.
func (p *Process) Wait() (Status, error) {
	var info waitInfo
	for {
		err := waitID(int(p.pidfd.Fd()), &info)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Status{}, errs.Wrap("wait for", "the container's process", err)
		}
		break
	}
	if info.code == cldExited {
		return Status{Code: int(info.status)}, nil
	}
	return Status{Signal: unix.Signal(info.status)}, nil
}

// Close lets go of the process; it does not end it. The terminal is the caller's to close,
// when all that is in it has been read.
func (p *Process) Close() error { return p.pidfd.Close() }
