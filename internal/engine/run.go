package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// PullPolicy says when run asks the registry.
type PullPolicy string

// Pull policies, with Docker's names.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// RunRequest is what the user asked to run. Spec holds only what was asked for; the engine
// completes it from the image.
type RunRequest struct {
	Spec     *spec.Container
	Pull     PullPolicy
	Platform string           // "linux/arm64"; empty: this machine's
	Progress func(ImageEvent) // of a pull; nil: nobody looks
	Quiet    bool             // show nothing of a pull that another program does
	Passed   Passed           // of a container in the foreground
}

// Exit is how a container ended, in Docker's terms.
type Exit struct {
	Code    int         // 0-255; 128+n for signal n
	Signal  unix.Signal // 0 if it exited by itself
	Message string      // why, if there is more to say: "out of memory: limit 64 MiB"
}

// Running is a container that this process started and has to wait for.
type Running struct {
	ID       spec.ContainerID
	Terminal *os.File // the master side; nil without a terminal

	box     *container.Container
	proc    *launch.Process
	group   cgroup.Group
	claim   uint32 // first host id of its range; 0: none
	started time.Time
	relay   *relay
	herald  *herald
	log     *transcript  // nil: none is kept
	report  *os.File     // from init; nil without
	sweep   func() error // clears up after others
	later   *time.Timer  // starts meanwhile
	idle    chan error   // what meanwhile came to

	released bool // the image does not need to stay for us any more
}

// Plan says what Start would do, and does nothing.
func (e *Engine) Plan(ctx context.Context, req RunRequest) (plan.Plan, error) {
	d, err := e.draft(ctx, req, true)
	if err != nil {
		return plan.Plan{}, err
	}
	return d.plan()
}

// Start makes a container and starts it with this process's stdin, stdout and stderr.
func (e *Engine) Start(ctx context.Context, req RunRequest) (*Running, error) {
	d, err := e.draft(ctx, req, false)
	if err != nil {
		return nil, advise(err)
	}
	r, err := d.start()
	if err != nil {
		d.discard()
		return nil, advise(err)
	}
	r.sweep, r.idle = e.sweep, make(chan error, 1)
	r.later = time.AfterFunc(3*time.Millisecond, func() { r.idle <- r.meanwhile() })
	return r, nil
}

// meanwhile does what can wait until the container has run for a moment: for one that is
// removed when it ends, to write down what it is; and to clear up after others.
func (r *Running) meanwhile() error {
	var err error
	if r.box.Spec.Life.Remove {
		err = r.save()
	}
	return errors.Join(err, r.sweep())
}

// settle makes sure that meanwhile is over or will not begin. There may be no containers but
// short ones: then somebody has to clear up all the same. What cannot be, the next sweep finds
// again.
func (r *Running) settle() {
	switch {
	case r.later == nil: // it was asked before
	case r.later.Stop():
		_ = r.sweep()
	default:
		<-r.idle
	}
	r.later = nil
}

// save writes description and state.
func (r *Running) save() error {
	if err := r.box.Save(); err != nil {
		return err
	}
	return r.setRunning()
}

func (r *Running) setRunning() error {
	return r.box.SetState(container.State{Status: container.Running, PID: r.proc.PID, StartTicks: container.Ticks(r.proc.PID),
		Groups: r.group, Started: r.started})
}

// sweep undoes what containers left whose owner was killed.
func (e *Engine) sweep() error {
	return container.Sweep(e.dirs(), container.Undo{
		KillGroups: func(dirs []string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return destroyGroup(ctx, cgroup.Group(dirs))
		},
		RemoveVolumes: func(maker spec.ContainerID, names []string) error {
			return errors.Join(volume.Forget(e.cfg.Root, string(maker)), removeVolumes(e.cfg.Root, names))
		},
		Adopt: e.adopt,
	})
}

func destroyGroup(ctx context.Context, g cgroup.Group) error {
	if len(g) == 0 {
		return nil
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	return g.Remove(ctx)
}

// start launches the draft and says how the first exec went.
func (d *draft) start() (*Running, error) {
	if err := d.holdBase(); err != nil {
		return nil, err
	}
	p, err := d.plan()
	if err != nil {
		return nil, err
	}
	if err := d.settleVolumes(); err != nil {
		return nil, err
	}
	r := &Running{ID: d.c.ID, box: d.box, claim: d.claim}
	if !d.c.Life.Remove {
		// Before it can do anything: if we are killed once it runs, it has run.
		if err := d.box.Save(); err != nil {
			return nil, err
		}
		if err := d.box.SetState(container.State{Status: container.Running, Started: time.Now()}); err != nil {
			return nil, err
		}
	}
	files := map[plan.Handle]*os.File{}
	if !d.c.Life.NoInit {
		pr, pw, err := os.Pipe()
		if err != nil {
			return nil, errs.Wrap("make report pipe", "", err)
		}
		defer pw.Close()
		files[plan.Report], r.report = pw, pr
	}
	if r.log, err = newTranscript(d.box.Dir(), d.c); err != nil {
		return nil, err
	}
	if r.relay, err = newRelay(d.c.Process, &p, files, r.log); err != nil {
		return nil, err
	}
	if r.herald, err = d.herald(); err != nil {
		return nil, err
	}
	for i, f := range d.passed.Files {
		files[passedHandle(i)] = f
		defer f.Close()
	}
	r.started = time.Now()
	r.proc, err = launch.Start(p, launch.Env{Files: files, MakeGroups: d.makeGroups, Seeded: d.seeded,
		Meanwhile: func(busy func() bool) { container.ForgetGone(d.e.dirs(), busy) }})
	r.relay.started()
	if err != nil {
		return nil, err
	}
	r.group, r.Terminal = d.groups.Group, r.proc.Terminal
	r.herald.start()
	d.ready()
	if r.report != nil {
		files[plan.Report].Close()
	}
	if d.c.Life.Remove {
		return r, nil
	}
	if err := r.setRunning(); err != nil {
		_ = r.proc.Signal(unix.SIGKILL)
		_, _ = r.proc.Wait()
		return nil, err
	}
	return r, nil
}

// heard waits for the report of init: the status of the command, when that has ended.
func (r *Running) heard() bool {
	var b [1]byte
	n, _ := unix.Read(int(r.report.Fd()), b[:]) // Fd makes it block: no detour by the poller
	return n == 1
}

// Tee is to, with the output of the container's terminal logged as it passes.
func (r *Running) Tee(to io.Writer) io.Writer { return r.log.tee(to, logs.Stdout) }

// EndLog ends the log of a container with a terminal, when all of that has been copied.
func (r *Running) EndLog() { r.log.close() }

// Signal sends a signal to the container's main process.
func (r *Running) Signal(sig unix.Signal) error { return r.proc.Signal(sig) }

// Wait waits for the end, records it, and removes what --rm says.
func (r *Running) Wait() (Exit, error) {
	if r.report != nil {
		defer r.report.Close()
		// The kernel takes a while to take the namespaces apart. Of our own part we do
		// meanwhile what does not depend on it.
		if r.heard() && r.box.Spec.Life.Remove {
			r.settle()
			r.released = r.box.Hide() && releaseImage(r.box.Dirs(), r.box.Spec) == nil
		}
	}
	st, err := r.proc.Wait()
	if err != nil {
		return Exit{}, err
	}
	if !fresh(r.box.Spec.Namespaces.PID) {
		// Nobody has ended the other processes, and they may have the pipes to the terminal open.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = r.group.Kill(ctx)
	}
	r.relay.wait()
	r.herald.end(container.KeepDir(r.box.Dirs(), r.ID))
	if r.Terminal == nil {
		r.log.close()
	}
	r.settle()
	exit := Exit{Code: st.Code, Signal: st.Signal}
	if st.Signal != 0 {
		exit.Code = 128 + int(st.Signal)
	}
	exit.Message = whyEnded(r.box.Spec.Resources, r.group, exit)
	return exit, advise(r.end(exit))
}

// whyEnded explains an end that a limit caused.
func whyEnded(limits spec.Resources, group cgroup.Group, exit Exit) string {
	if exit.Code == 128+int(unix.SIGKILL) || exit.Code == 1 || exit.Code > 128 {
		if group.OOMKills() > 0 {
			if limits.Memory.Limit > 0 {
				return "out of memory: limit " + sizeWords(limits.Memory.Limit)
			}
			return "out of memory: the machine has none left"
		}
	}
	if exit.Code != 0 && limits.Pids.Limit != nil {
		if group.PidsRefused() > 0 {
			return "process limit met: limit " + countWords(*limits.Pids.Limit)
		}
	}
	return ""
}

// leaveGroup removes the cgroups. A pid namespace has ended all its processes with its PID
// 1: then there is nobody to kill, as a rule.
func leaveGroup(ctx context.Context, c *spec.Container, g cgroup.Group) error {
	if len(g) == 0 {
		return nil
	}
	if fresh(c.Namespaces.PID) {
		brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if g.Remove(brief) == nil {
			return nil
		}
	}
	return destroyGroup(ctx, g)
}

// end gives back what the container held, and removes or records it. What does not succeed
// the next sweep tries again, by the record that then stays.
func (r *Running) end(exit Exit) error {
	_ = r.proc.Close()
	err := r.giveBack()
	remove := r.box.Spec.Life.Remove
	if err == nil && !remove {
		err = r.box.SetState(container.State{Status: container.Exited, Started: r.started, Finished: time.Now(),
			ExitCode: exit.Code, OOM: exit.Message != "" && exit.Signal == unix.SIGKILL, Message: exit.Message})
	}
	switch {
	case err != nil:
		r.box.Abandon()
		return err
	case remove && r.released:
		return r.box.Remove()
	case remove:
		return errors.Join(r.box.Remove(), releaseImage(r.box.Dirs(), r.box.Spec))
	}
	return r.box.Unlock()
}

// giveBack ends what may still be alive and gives up all but the directory and the name.
func (r *Running) giveBack() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := leaveGroup(ctx, r.box.Spec, r.group); err != nil {
		return err
	}
	return giveBack(r.box, r.claim, r.box.Spec.Life.Remove)
}

func giveBack(box *container.Container, claim uint32, remove bool) error {
	if claim != 0 {
		if err := container.ReleaseIDs(box.Dirs(), box.Spec.ID, claim); err != nil {
			return err
		}
	}
	if !remove {
		return nil
	}
	return removeVolumes(box.Dirs().Root, box.Spec.AnonymousVolumes())
}
