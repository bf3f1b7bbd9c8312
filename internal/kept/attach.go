package kept

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/read"
	"github.com/cortenhq/corten/internal/spec"
)

// Attached is a view of a kept container from outside. Its output is read from its log, which
// has all of it: who reads slowly, or goes away, keeps nobody waiting and misses nothing.
type Attached struct {
	ID       spec.ContainerID
	Terminal *os.File // the master of its terminal, on which its size can be set; nil without

	dirs  container.Dirs
	snap  container.Snapshot
	log   *os.File      // the folder of its log, locked: it stays until we have read all
	from  logs.Position // where its output begins
	stdin *os.File
}

// AttachRequest is what is wanted of an attachment.
type AttachRequest struct {
	Stdin bool
	Start Origin // start it, and show its output from there; empty: it runs
}

// Attach attaches to a container, after starting it if that is asked for. Who attaches has to Close.
func Attach(ctx context.Context, site draft.Site, s container.Snapshot, req AttachRequest) (*Attached, error) {
	if err := attachable(s, req); err != nil {
		return nil, err
	}
	a := &Attached{ID: s.Spec.ID, dirs: site.Dirs, snap: s}
	if err := a.open(ctx, site, req); err != nil {
		a.Close()
		return nil, err
	}
	events.Tell(site.Dirs.Root, s.Spec, "attach", nil)
	return a, nil
}

// attachable refuses what nobody could attach to.
func attachable(s container.Snapshot, req AttachRequest) error {
	const op = "attach to container"
	name := s.Spec.Name
	switch {
	case s.State.Status == container.Running && !s.State.Kept:
		return errs.Newf(errs.Invalid, op, name, "it runs in the foreground of another command, which has its output").
			WithHint("corten exec starts a command in it")
	case !s.State.Alive() && req.Start == "":
		return errs.Newf(errs.Invalid, op, name, "it is not running").WithHint("corten start --attach starts it")
	case s.Spec.Life.Log.Off:
		return errs.Newf(errs.Unsupported, op, name, "it keeps no log (--log-driver none)").WithHint("make it without that flag")
	case req.Stdin && !s.Spec.Process.Stdin:
		return errs.Newf(errs.Invalid, op, name, "it has no stdin").WithHint("make it with --interactive")
	}
	return nil
}

// logDir is the folder of the log, wherever it is moved to.
func (a *Attached) logDir() string { return "/proc/self/fd/" + strconv.Itoa(int(a.log.Fd())) }

func (a *Attached) open(ctx context.Context, site draft.Site, req AttachRequest) error {
	log := container.LogDir(a.dirs, a.ID)
	err := os.Mkdir(log, 0o700)
	if err == nil || errs.Is(err, errs.Exists) {
		a.log, err = os.Open(log)
	}
	if err == nil {
		err = disk.Flock(a.log, disk.Shared)
	}
	if err != nil {
		return errs.Wrap("attach to container", a.snap.Spec.Name, err)
	}
	if a.from, err = read.End(a.logDir()); err != nil {
		return err
	}
	if req.Start != "" {
		if err := Start(ctx, site, a.snap, req.Start); err != nil {
			return err
		}
	}
	if a.snap, err = container.Load(a.dirs, a.ID); err != nil {
		if container.Gone(err) && req.Start != "" {
			return nil // it has ended already
		}
		return err
	}
	return a.openInput(req)
}

// openInput opens what input goes to. A container that has ended takes none.
func (a *Attached) openInput(req AttachRequest) error {
	var err error
	switch {
	case a.snap.Spec.Process.Terminal:
		a.Terminal, err = terminalOf(a.dirs, a.ID)
	case req.Stdin:
		// Without a reader it does not open; the container has gone then.
		a.stdin, err = openFIFO(filepath.Join(container.KeepDir(a.dirs, a.ID), "stdin"), unix.O_WRONLY|unix.O_NONBLOCK)
		if err == nil {
			err = unix.SetNonblock(int(a.stdin.Fd()), false)
		}
	}
	if err == unix.ENXIO || container.Gone(err) || errs.Is(err, errs.NotFound) {
		return nil
	}
	return errs.Wrap("attach to container", a.snap.Spec.Name, err)
}

// terminalOf fetches the master of a container's terminal from its keeper (pidfd_getfd(2)).
func terminalOf(dirs container.Dirs, id spec.ContainerID) (*os.File, error) {
	gone := errs.Newf(errs.NotFound, "find terminal of container", id.Short(), "it is not running")
	pid := keeperOf(dirs, id)
	if pid == 0 {
		return nil, gone
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, gone
	}
	defer unix.Close(pidfd)
	for n := lockFD; n < 32; n++ {
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			continue
		}
		if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil { // a master, ioctl_tty(2)
			unix.CloseOnExec(fd)
			return os.NewFile(uintptr(fd), "terminal"), nil
		}
		_ = unix.Close(fd)
	}
	return nil, gone
}

// Output gives what the container writes, from where the attachment began, until it has
// ended. With a restart policy it goes on until it is not started again.
func (a *Attached) Output(ctx context.Context, out, err io.Writer) error {
	live := read.Live{Over: a.over, Wake: []string{container.Dir(a.dirs, a.ID)}}
	each := func(e read.Entry) error {
		to := out
		if e.Stream == logs.Stderr {
			to = err
		}
		b := e.Content
		if !e.Partial && e.Lost == 0 {
			b = append(b, '\n')
		}
		_, werr := to.Write(b)
		return werr
	}
	return Tended(a.dirs, func() error { return read.Follow(ctx, a.logDir(), read.Request{From: a.from}, live, each) })
}

// over reports whether the container has ended for good.
func (a *Attached) over() bool {
	st, err := container.ReadState(a.dirs, a.ID)
	return container.Gone(err) || err == nil && !st.Alive()
}

// Write sends input to the container.
func (a *Attached) Write(b []byte) (int, error) {
	switch {
	case a.Terminal != nil:
		return a.Terminal.Write(b)
	case a.stdin != nil:
		return a.stdin.Write(b)
	}
	return len(b), nil // it has ended
}

// EndInput tells the container that there is no more input, if it was made to be told.
func (a *Attached) EndInput() {
	if a.stdin == nil || !a.snap.Spec.Process.StdinOnce {
		return
	}
	_ = a.stdin.Close()
	a.stdin = nil
	// A keeper that does not catch signals yet looks for the name when it does.
	_ = os.Remove(filepath.Join(container.KeepDir(a.dirs, a.ID), "stdin"))
	SignalKeeper(a.dirs, a.ID, unix.SIGUSR1) // the keeper has it open too
}

// Signal sends a signal to the container's main process.
func (a *Attached) Signal(sig unix.Signal) error {
	now, err := container.Load(a.dirs, a.ID)
	if err != nil {
		return err
	}
	return now.Signal(sig)
}

// Wait waits for the end and says how it was.
func (a *Attached) Wait(ctx context.Context) (ending.Exit, error) {
	var last container.State
	gone := false
	err := Tended(a.dirs, func() error {
		return container.Await(ctx, a.dirs, a.ID, func(st *container.State) bool {
			if gone = st == nil; gone {
				return true
			}
			last = *st
			return !st.Alive()
		})
	})
	if err != nil {
		return ending.Exit{}, err
	}
	if gone {
		code, err := ending.Recall(a.dirs.Root, a.ID, a.snap.Spec.Created)
		return ending.Exit{Code: code}, err
	}
	return ending.Exit{Code: last.ExitCode, Message: last.Message}, nil
}

// Close lets go of the container.
func (a *Attached) Close() {
	for _, f := range []*os.File{a.log, a.Terminal, a.stdin} {
		if f != nil {
			_ = f.Close()
		}
	}
}
