package engine

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
)

// find reads the container that a user means. Those whose owner was killed are looked after
// first, so that what is read is true.
func (e *Engine) find(ref string) (container.Snapshot, error) {
	id, err := container.Find(e.dirs(), ref)
	if err != nil {
		return container.Snapshot{}, err
	}
	s, err := container.Load(e.dirs(), id)
	if container.Gone(err) { // just now
		if _, ferr := container.Find(e.dirs(), ref); ferr != nil {
			err = ferr
		}
	}
	return s, err
}

// Tidy takes care of what the owners of containers left that were killed. Every command that
// looks at containers begins with it.
func (e *Engine) Tidy() error { return e.sweep() }

// StartContainer starts a container that is not running. It is no error if it runs.
func (e *Engine) StartContainer(ctx context.Context, ref string) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	return kept.Start(ctx, e.site(), s, ByStart)
}

// Signal sends a signal to a container's main process.
func (e *Engine) Signal(ref string, sig unix.Signal) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if sig == unix.SIGKILL || sig == stopSignal(s.Spec) { // as Docker: a restart policy does not undo it
		if err := kept.AskEnd(e.dirs(), s); err != nil {
			return err
		}
	}
	if err := s.Signal(sig); err != nil {
		return errs.Wrap("kill", "", err)
	}
	e.tell(s.Spec, "kill", map[string]string{"signal": strconv.Itoa(int(sig))})
	return nil
}

// StopRequest is how a container is to be stopped.
type StopRequest struct {
	Signal  unix.Signal    // 0: the container's own stop signal
	Timeout *time.Duration // before SIGKILL; nil: the container's own, negative: for ever
}

// StopContainer asks a container to end, and ends it if it does not. It is no error if it is
// not running.
func (e *Engine) StopContainer(ctx context.Context, ref string, req StopRequest) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if !s.State.Alive() {
		return nil
	}
	if err := e.stopFound(ctx, s, req); err != nil {
		return err
	}
	e.tell(s.Spec, "stop", nil)
	return e.leftByPlugins(s.Spec.ID)
}

// stopFound has a container end for good. What its restart policy has begun meanwhile is
// stopped as well; what a user starts after that is not.
func (e *Engine) stopFound(ctx context.Context, s container.Snapshot, req StopRequest) error {
	err := kept.AskEnd(e.dirs(), s)
	for n := 0; err == nil; n++ {
		switch {
		case !s.State.Alive():
			return e.attended(ctx, func(brief context.Context) error {
				_, err := container.AwaitIdle(brief, e.dirs(), s.Spec.ID)
				return err
			})
		case n > 0 && s.State.Kept && !kept.AskedEnd(e.dirs(), s.Spec.ID):
			return nil
		case s.State.Status == container.Restarting:
			kept.SignalKeeper(e.dirs(), s.Spec.ID, unix.SIGTERM) // it need not wait any longer
			err = e.awaitState(ctx, s.Spec.ID, func(st *container.State) bool { return st == nil || st.Status != container.Restarting })
		default:
			err = e.stopRun(ctx, s, req)
		}
		if err == nil {
			s, err = container.Load(e.dirs(), s.Spec.ID)
		}
	}
	if container.Gone(err) { // --rm
		return nil
	}
	return err
}

// stopRun ends one run of a container.
func (e *Engine) stopRun(ctx context.Context, s container.Snapshot, req StopRequest) error {
	ended := func(st *container.State) bool {
		return st == nil || st.Status != container.Running || st.PID != s.State.PID || st.StartTicks != s.State.StartTicks
	}
	sig, patience := stopOf(s.Spec, req)
	if s.Frozen() { // it could not react
		_ = cgroup.Group(s.State.Groups).Thaw()
	}
	if err := s.Signal(sig); err != nil {
		if errs.Is(err, errs.NotFound) { // it has just ended
			return e.awaitState(ctx, s.Spec.ID, ended)
		}
		return err
	}
	if patience >= 0 {
		brief, cancel := context.WithTimeout(ctx, patience)
		err := e.awaitState(brief, s.Spec.ID, ended)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := s.Signal(unix.SIGKILL); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return e.awaitState(ctx, s.Spec.ID, ended)
}

// stopOf is the signal and the patience that a request, the container and Docker's defaults
// come to.
func stopOf(c *spec.Container, req StopRequest) (unix.Signal, time.Duration) {
	sig, patience := req.Signal, 10*time.Second
	if sig == 0 {
		sig = stopSignal(c)
	}
	if t := c.Life.StopTimeout; t != nil {
		patience = time.Duration(*t) * time.Second
	}
	if req.Timeout != nil {
		patience = *req.Timeout
	}
	return sig, patience
}

// SignalOf reads a signal: a number, or a name such as SIGTERM or SIGRTMIN+3; 0 if it is none.
func SignalOf(name string) unix.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return unix.Signal(n)
	}
	if s := unix.SignalNum(name); s != 0 {
		return s
	}
	return realTime(name)
}

// realTime reads a real-time signal as kill -l names it, such as SIGRTMIN+3, with the C
// library's SIGRTMIN, which keeps two for itself; 0 if it is none.
func realTime(name string) unix.Signal {
	rest, found := strings.CutPrefix(name, "SIGRTMIN")
	if !found {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(rest, "+"), 10, 8)
	if rest != "" && (err != nil || n > 30 || rest[0] != '+') {
		return 0
	}
	return unix.Signal(34 + n)
}

// stopSignal asks a container to end, if nobody says which.
func stopSignal(c *spec.Container) unix.Signal {
	return cmp.Or(SignalOf(c.Life.StopSignal), unix.SIGTERM)
}

// awaitState waits until enough says that a container's state is what is waited for.
func (e *Engine) awaitState(ctx context.Context, id spec.ContainerID, enough func(*container.State) bool) error {
	return e.attended(ctx, func(brief context.Context) error { return container.Await(brief, e.dirs(), id, enough) })
}

// attended waits for something that a container's keeper does. Now and then it sees to it that
// there is one: it may be killed.
func (e *Engine) attended(ctx context.Context, wait func(context.Context) error) error {
	for {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		err := wait(brief)
		late := brief.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || !late {
			return err
		}
		if err := e.sweep(); err != nil {
			return err
		}
	}
}

// RestartContainer stops a container if it runs, and starts it.
func (e *Engine) RestartContainer(ctx context.Context, ref string, req StopRequest) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if s.State.Alive() {
		if !s.State.Kept {
			return errs.Newf(errs.Invalid, "restart container", s.Spec.Name, "it runs in the foreground of another command").
				WithHint("stop it, and have that command start it again")
		}
		if s.Spec.Life.Remove {
			return errs.Newf(errs.Invalid, "restart container", s.Spec.Name, "it is removed when it ends (--rm)").
				WithHint("run it again")
		}
		if err := e.stopFound(ctx, s, req); err != nil {
			return err
		}
	}
	if s, err = e.find(string(s.Spec.ID)); err != nil {
		return err
	}
	if err := kept.Start(ctx, e.site(), s, ByStart); err != nil {
		return err
	}
	e.tell(s.Spec, "restart", nil)
	return nil
}

// Pause freezes every process of a container; Unpause lets them go on.
func (e *Engine) Pause(ctx context.Context, ref string) error { return e.freeze(ctx, ref, true) }

// Unpause lets a frozen container go on.
func (e *Engine) Unpause(ctx context.Context, ref string) error { return e.freeze(ctx, ref, false) }

func (e *Engine) freeze(ctx context.Context, ref string, on bool) error {
	op, event := "pause container", "pause"
	if !on {
		op, event = "unpause container", "unpause"
	}
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if s.State.Status != container.Running {
		return errs.Newf(errs.Invalid, op, s.Spec.Name, "it is not running").WithHint("corten start starts it")
	}
	group := cgroup.Group(s.State.Groups)
	is, err := group.Frozen()
	switch {
	case err != nil:
		return errs.Wrap(op, s.Spec.Name, err)
	case is && on:
		return errs.Newf(errs.Invalid, op, s.Spec.Name, "it is paused already").WithHint("corten unpause lets it go on")
	case !is && !on:
		return errs.Newf(errs.Invalid, op, s.Spec.Name, "it is not paused")
	case on:
		err = group.Freeze(ctx)
	default:
		err = group.Thaw()
	}
	if err != nil {
		if errors.Is(err, unix.ENODEV) || groupsGone(s.State.Groups) {
			return errs.Newf(errs.Invalid, op, s.Spec.Name, "it is not running any more").WithHint("corten start starts it")
		}
		return errs.Wrap(op, s.Spec.Name, err)
	}
	e.tell(s.Spec, event, nil)
	return nil
}

// RemoveRequest is how a container is to be removed.
type RemoveRequest struct {
	Force   bool // end it first
	Volumes bool // with its anonymous volumes
	Ignore  bool // one that is not there is no error
}

// RemoveContainer removes a container and its writable layer.
func (e *Engine) RemoveContainer(ctx context.Context, ref string, req RemoveRequest) error {
	s, err := e.find(ref)
	if err != nil {
		if req.Ignore && errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	}
	for {
		if s.State.Alive() {
			if !req.Force {
				return errs.Newf(errs.Busy, "remove container", s.Spec.Name, "it is "+string(s.State.Status)).
					WithHint("stop it first (corten stop " + s.Spec.Name + "), or remove it with --force")
			}
			now := time.Duration(0)
			if err := e.stopFound(ctx, s, StopRequest{Signal: unix.SIGKILL, Timeout: &now}); err != nil {
				return err
			}
		}
		err := ending.Remove(ctx, e.dirs(), s, req.Volumes)
		if err == nil {
			// Else a power cut could bring it back, and corten boot start it.
			err = disk.SyncDir(filepath.Dir(container.Dir(e.dirs(), s.Spec.ID)))
			return errors.Join(err, e.leftByPlugins(s.Spec.ID))
		}
		if !req.Force || !errs.Is(err, errs.Busy) {
			return err
		}
		now, lerr := container.Load(e.dirs(), s.Spec.ID)
		if lerr != nil || !now.State.Alive() {
			return err
		}
		s = now // somebody has started it meanwhile
	}
}

// RenameContainer gives a container another name.
func (e *Engine) RenameContainer(ref, name string) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := container.Rename(e.dirs(), s.Spec.ID, name); err != nil {
		return err
	}
	old := s.Spec.Name
	s.Spec.Name = name
	e.tell(s.Spec, "rename", map[string]string{"oldName": "/" + old})
	if nest.Inside() { // pasta knows no names
		return nil
	}
	return network.Rename(e.netDirs(), s.Spec)
}

// WaitContainer waits until a container does not run, and returns its exit status.
func (e *Engine) WaitContainer(ctx context.Context, ref string, until WaitFor) (int, error) {
	s, err := e.find(ref)
	if err != nil {
		return 0, err
	}
	code, gone := 0, false
	err = kept.Tended(e.dirs(), func() error {
		return container.Await(ctx, e.dirs(), s.Spec.ID, func(st *container.State) bool {
			if gone = st == nil; gone {
				return true
			}
			code = st.ExitCode
			return until.met(st)
		})
	})
	if err == nil && gone && until != UntilRemoved {
		code, err = ending.Recall(e.cfg.Root, s.Spec.ID, s.State.Started)
	}
	return code, err
}

// WaitFor is what Wait waits for.
type WaitFor string

// Conditions of wait, in Docker's words.
const (
	UntilStopped WaitFor = "not-running"
	UntilExit    WaitFor = "next-exit"
	UntilRemoved WaitFor = "removed"
)

func (w WaitFor) met(st *container.State) bool {
	return w != UntilRemoved && st.Status != container.Running
}

// Boot starts the containers that are to run whenever the machine does.
func (e *Engine) Boot(ctx context.Context, told func(name string, err error)) error {
	if err := e.sweep(); err != nil {
		return err
	}
	err := loadProfile(ctx)
	list, lerr := container.List(e.dirs())
	err = errors.Join(err, lerr)
	for i := len(list) - 1; i >= 0; i-- { // the oldest first: others may need it
		s := list[i]
		r := s.Spec.Life.Restart.Policy
		wanted := r == spec.RestartAlways || r == spec.RestartUnlessStopped && !s.State.Stopped
		if !wanted || s.State.Alive() || s.State.Status == container.Created {
			continue
		}
		serr := kept.Start(ctx, e.site(), s, ByStart)
		told(s.Spec.Name, serr)
		err = errors.Join(err, serr)
	}
	return err
}
