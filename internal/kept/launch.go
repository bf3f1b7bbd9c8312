// Package kept starts containers that live on, and takes care of them until they are gone.
//
// A kept container is started by a process of its own, which executes one program after the
// other until the container has ended: corten, which launches it (Begin); the keeper; corten again,
// which records the end (End); and for a restart a pause and then Begin. All of them have the lock.
// When one is killed, the next Sweep gives the container a successor, which goes on from what is in
// run/keep/ID: LIFECYCLE.md, "Containers that live on". Others look at a container by its files and
// its log (Attach), and leave word there (AskEnd).
package kept

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/checkpoint"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// pass puts files where the next program of this process expects them: from descriptor 3 on,
// and nothing where one is nil.
func pass(files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files { // first out of the way of those that are placed before them
		if f == nil {
			fds[i] = -1
			continue
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, lockFD+len(files))
		if err != nil {
			return err
		}
		fds[i] = fd
	}
	for i, fd := range fds {
		if fd < 0 {
			continue
		}
		if err := unix.Dup3(fd, lockFD+i, 0); err != nil {
			return err
		}
	}
	return nil
}

// Begin is the process of a kept container from its beginning to the launch; then it is
// the keeper. It returns only if that did not come about.
func Begin(ctx context.Context, site draft.Site, id spec.ContainerID, by Origin) error {
	box, err := container.Inherit(site.Dirs, id, os.NewFile(lockFD, "lock"))
	if err != nil {
		return err
	}
	var ready *os.File
	if by != ByRestart {
		ready = os.NewFile(readyFD, "ready")
		unix.CloseOnExec(readyFD)
	} else if st, err := container.ReadState(site.Dirs, id); err == nil && AskedEnd(site.Dirs, id) {
		return finish(box, st) // just now
	}
	l, err := relaunch(ctx, site, box, by)
	settled := error(nil)
	if err != nil {
		settled = notStarted(box, by, err)
	} else {
		announce(site.Notify, box.Spec)
	}
	if ready != nil { // now that nothing is left to wait for
		sayReply(ready, advice.Add(err))
		ready.Close()
	}
	if err != nil {
		return settled
	}
	return l.hand()
}

// notStarted settles the state of a container that could not be started.
func notStarted(box *container.Container, by Origin, cause error) error {
	dirs := box.Dirs()
	if box.Spec.Connected() { // again, if that did not succeed: without the record nobody would
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := draft.Disconnect(ctx, draft.NetDirs(dirs), box.Spec.ID); err != nil {
			box.Abandon()
			return err
		}
	}
	if by.made() {
		return Unmake(box)
	}
	st, err := container.ReadState(dirs, box.Spec.ID)
	if err != nil {
		box.Abandon()
		return err
	}
	st.ExitCode, st.Message = codeOf(cause), cause.Error()
	if by == ByRestart || by.resumes() {
		st.Status, st.PID, st.StartTicks, st.Groups = container.Exited, 0, 0, nil
	}
	if err := errors.Join(box.SetState(st), container.ForgetRun(dirs, box.Spec.ID)); err != nil {
		box.Abandon()
		return err
	}
	return box.Unlock()
}

// Unmake removes a container that never ran.
func Unmake(box *container.Container) error {
	root := box.Dirs().Root
	return errors.Join(box.Discard(), image.Release(root, box.Spec), volume.RemoveAll(root, box.Spec.AnonymousVolumes()))
}

// codeOf is the exit status of a container that could not be started, in Docker's terms.
func codeOf(err error) int {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return 127
	case errs.Denied:
		return 126
	}
	return 125
}

// launched is a container that has just been launched for a keeper.
type launched struct {
	d    *draft.Draft
	by   Origin
	proc *launch.Process
	dir  string // KeepDir
	std  *stdio
	ears *os.File // the socket that the container notifies; nil: it has none
}

// relaunch launches a container from what is on disk, and writes down all that its keeper
// has to know. What was begun is undone on an error.
func relaunch(ctx context.Context, site draft.Site, box *container.Container, by Origin) (*launched, error) {
	// A restart may find what a killed one left.
	stale, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cgroup.Group(box.Groups()).Destroy(stale); err != nil {
		return nil, err
	}
	dir := container.KeepDir(site.Dirs, box.Spec.ID)
	if err := clearRun(dir); err != nil {
		return nil, errs.Wrap("clear folder of keeper", dir, err)
	}
	if !by.resumes() { // the files of the container go on without it
		if err := checkpoint.Forget(site.Dirs, box.Spec.ID); err != nil {
			return nil, err
		}
	}
	d, err := site.Again(ctx, box)
	if err == nil {
		l := &launched{d: d, by: by, dir: dir}
		if err = l.launch(); err == nil {
			return l, nil
		}
	}
	if d != nil {
		d.Retreat()
	}
	return nil, err
}

// clearRun removes what the last run of a container has left for its keeper.
func clearRun(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range entries {
		switch f.Name() {
		case "rest", "stop", "keeper", "orders": // of the restart
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (l *launched) launch() error {
	std, err := l.openIO()
	if err != nil {
		return err
	}
	l.std = std
	if l.ears, err = l.d.Listen(); err != nil {
		return err
	}
	p, err := l.d.Plan(std.guards...)
	if err != nil {
		return err
	}
	p.UseStdio(std.std)
	env := launch.Env{Files: std.files}
	if l.by == ByRestart { // nobody waits to be told: from the beginning it is adopted if we are killed
		env.Waits = l.record
	}
	if l.by.resumes() {
		l.proc, err = l.d.Resume(p, env, std.shared(), l.record)
		if err == nil {
			err = checkpoint.Settle(l.d.Site.Dirs, l.d.Spec.ID)
		}
	} else {
		l.proc, err = l.d.Launch(p, env)
	}
	if err != nil {
		return err
	}
	if l.by != ByRestart && !l.by.resumes() {
		err = l.record(l.proc.PID)
	}
	if err == nil {
		err = os.RemoveAll(filepath.Join(l.dir, "rest"))
	}
	if err != nil {
		_ = l.proc.Signal(unix.SIGKILL)
		_, _ = l.proc.Wait()
		return errs.Wrap("begin container", l.d.Spec.Name, err)
	}
	events.Tell(l.d.Site.Dirs.Root, l.d.Spec, "start", nil)
	return nil
}

// record says that the container runs, and what its keeper has to know. Once the orders are
// there it is adopted rather than killed if we are.
func (l *launched) record(pid int) error {
	id := l.d.Spec.ID
	old, err := container.ReadState(l.d.Site.Dirs, id)
	if err != nil {
		return err
	}
	st := container.State{Status: container.Running, PID: pid, StartTicks: container.Ticks(pid), Groups: l.d.Group(), Kept: true, Started: time.Now()}
	if l.by == ByRestart {
		st.Restarts, st.Attempts = old.Restarts, old.Attempts
	}
	if err := l.d.Box.SetState(st); err != nil {
		return err
	}
	if err := beginHealth(l.d.Site.Dirs, l.d.Spec); err != nil {
		return err
	}
	o := ordersOf(l.d.Site, l.d.Spec)
	if l.d.Net != nil {
		orderConnection(&o, l.d.Net.Doc)
	}
	o.PID, o.Start = st.PID, st.StartTicks
	return o.Write(l.dir)
}

// ordersOf is what a container's keeper has to know of its description.
func ordersOf(site draft.Site, c *spec.Container) keeper.Orders {
	l := c.Life.Log
	o := keeper.Orders{ID: string(c.ID), Root: site.Dirs.Root, Run: site.Dirs.Run, Corten: programs.Corten(),
		Terminal: c.Process.Terminal, Init: !c.Life.NoInit, Guard: lockFD + 1}
	o.Keeper, _ = programs.Find("corten-keeper") // else it is looked for beside corten
	o.Log = keeper.LogOrders{Compress: !l.Uncompressed, NonBlocking: l.NonBlocking, Buffer: l.Buffer, Off: l.Off}
	o.Notify = notifyOrders(site.Notify, c)
	o.Log.Size, o.Log.Files = l.Limits()
	if l.Buffer == 0 {
		o.Log.Buffer = 1 << 20
	}
	if h := c.Life.Health; h != nil && !h.Off {
		o.Health = keeper.HealthOrders{Interval: orElse(h.Interval, 30*time.Second), StartPeriod: int64(h.StartPeriod),
			StartInterval: orElse(h.StartInterval, 5*time.Second)}
	}
	return o
}

// orElse is d, or what it is by default, in nanoseconds.
func orElse(d, otherwise time.Duration) int64 {
	if d == 0 {
		d = otherwise
	}
	return int64(d)
}

// hand makes this process the keeper.
func (l *launched) hand() error {
	ports, err := l.d.Net.Ports()
	if err != nil {
		return err
	}
	files := make([]*os.File, portsFD-lockFD+1) // as keeper.Keep wants them
	files[0], files[1], files[2] = l.d.Box.Lock(), l.proc.PIDFD(), l.proc.Terminal
	files[stdinFD-lockFD], files[notifyFD-lockFD] = l.std.files["stdin-hold"], l.ears
	files[stdoutFD-lockFD], files[stderrFD-lockFD] = l.std.files["guard-stdout"], l.std.files["guard-stderr"]
	copy(files[udpFD-lockFD:], l.d.Net.Names())
	files[portsFD-lockFD] = ports
	program, err := programs.Find("corten-keeper")
	if err != nil {
		return err
	}
	if notifyOrders(l.d.Site.Notify, l.d.Spec).Socket == "" {
		runtime.LockOSThread() // the one that executes
		cgroup.EnterKeepers()
	}
	if err := pass(files...); err != nil {
		return errs.Wrap("pass descriptors to", program, err)
	}
	return keeper.Become(program, l.d.Site.Dirs.Root, l.d.Site.Dirs.Run, string(l.d.Spec.ID))
}
