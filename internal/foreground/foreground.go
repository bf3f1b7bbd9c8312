// Package foreground runs a container whose starter waits for it: there is no keeper, the starter
// copies what has to be copied, writes the log if one is kept, and settles the end. If the starter
// is killed its container is killed too, and the next sweep settles the end.
package foreground

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/relay"
	"github.com/cortenhq/corten/internal/spec"
)

// Running is a container that this process started and has to wait for.
type Running struct {
	ID       spec.ContainerID
	Terminal *os.File // the master side; nil without a terminal

	box     *container.Container
	proc    *launch.Process
	group   cgroup.Group
	net     *draft.Connection // nil: it is on no network
	claim   uint32            // first host id of its range; 0: none
	started time.Time
	relay   *relay.Relay
	herald  *herald
	log     *relay.Transcript // nil: none is kept
	report  *os.File          // from init; nil without
	sweep   func() error      // clears up after others
	idle    idle

	released bool // the image does not need to stay for us any more
}

// idle is the moment in which meanwhile is done.
type idle struct {
	timer *time.Timer // nil once it was asked about
	over  chan error  // what meanwhile came to
}

// Start starts a draft, with the stdin, stdout and stderr of this process. A draft that cannot be
// started is discarded.
func Start(d *draft.Draft) (*Running, error) {
	r, err := start(d)
	if err != nil {
		d.Discard()
		return nil, err
	}
	r.sweep, r.idle.over = d.Site.Sweep, make(chan error, 1)
	r.idle.timer = time.AfterFunc(3*time.Millisecond, func() { r.idle.over <- r.meanwhile() })
	return r, nil
}

// start launches the draft and says how the first exec went.
func start(d *draft.Draft) (*Running, error) {
	p, err := d.Plan()
	if err != nil {
		return nil, err
	}
	r := &Running{ID: d.Spec.ID, box: d.Box, net: d.Net, claim: d.Claim}
	if !d.Spec.Life.Remove {
		// Before it can do anything: if we are killed once it runs, it has run.
		if err := d.Box.Save(); err != nil {
			return nil, err
		}
		if err := d.Box.SetState(container.State{Status: container.Running, Started: time.Now()}); err != nil {
			return nil, err
		}
	}
	files := map[plan.Handle]*os.File{}
	if !d.Spec.Life.NoInit {
		pr, pw, err := pipe()
		if err != nil {
			return nil, errs.Wrap("make report pipe", "", err)
		}
		defer pw.Close()
		files[plan.Report], r.report = pw, pr
	}
	if r.log, err = relay.NewTranscript(container.LogDir(d.Box.Dirs(), d.Spec.ID), d.Spec); err != nil {
		return nil, err
	}
	if r.relay, err = relay.New(d.Spec.Process, &p, files, r.log); err != nil {
		return nil, err
	}
	if r.herald, err = newHerald(d); err != nil {
		return nil, err
	}
	r.started = time.Now()
	r.proc, err = d.Launch(p, launch.Env{Files: files, Meanwhile: func(busy func() bool) { container.ForgetGone(d.Site.Dirs, busy) }})
	r.relay.Started()
	if err != nil {
		return nil, err
	}
	r.group, r.Terminal = d.Group(), r.proc.Terminal
	r.herald.start()
	ready(d)
	if r.report != nil {
		files[plan.Report].Close()
	}
	if d.Spec.Life.Remove {
		return r, nil
	}
	if err := r.setRunning(); err != nil {
		_ = r.proc.Signal(unix.SIGKILL)
		_, _ = r.proc.Wait()
		return nil, err
	}
	return r, nil
}

// meanwhile does what can wait until the container has run for a moment: for one that is
// removed when it ends, to write down what it is; and to clear up after others.
func (r *Running) meanwhile() error {
	kernel.RouseMonitor()
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
	case r.idle.timer == nil: // it was asked before
	case r.idle.timer.Stop():
		_ = r.sweep()
	default:
		<-r.idle.over
	}
	r.idle.timer = nil
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

// heard waits for the report of init: the status of the command, when that has ended.
func (r *Running) heard() bool {
	var b [1]byte
	n, _ := unix.Read(int(r.report.Fd()), b[:])
	return n == 1
}

// pipe makes a pipe that blocks. Of one that does not, the runtime's poller would want to know, on
// a thread that is woken for it.
func pipe() (rd, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(p[0]), "report"), os.NewFile(uintptr(p[1]), "report"), nil
}

// Tee is to, with the output of the container's terminal logged as it passes.
func (r *Running) Tee(to io.Writer) io.Writer { return r.log.Tee(to, logs.Stdout) }

// EndLog ends the log, when all that came from a terminal has been copied.
func (r *Running) EndLog() {
	r.log.Close()
	ending.CompressLog(r.box.Dirs(), r.box.Spec)
}

// Signal sends a signal to the container's main process.
func (r *Running) Signal(sig unix.Signal) error { return r.proc.Signal(sig) }

// Wait waits for the end, records it, and removes what --rm says. With an error the exit counts all
// the same: it is about what was left to do.
func (r *Running) Wait() (ending.Exit, error) {
	if r.report != nil {
		defer r.report.Close()
		// The kernel takes a while to take the namespaces apart. Of our own part we do
		// meanwhile what does not depend on it.
		if r.heard() {
			r.net.Finish()
			if r.box.Spec.Life.Remove {
				r.settle()
				r.released = r.box.Hide() && image.Release(r.box.Dirs().Root, r.box.Spec) == nil
			}
		}
	}
	st, err := r.proc.Wait()
	if err != nil {
		return ending.Exit{}, err
	}
	if !r.box.Spec.Namespaces.PID.New() {
		// Nobody has ended the other processes, and they may have the pipes to the terminal open.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = r.group.Kill(ctx)
	}
	r.relay.Wait()
	r.herald.end(container.KeepDir(r.box.Dirs(), r.ID))
	if r.Terminal == nil {
		r.log.Close()
	}
	r.settle()
	exit := ending.Of(st)
	exit.Message = ending.Why(r.box.Spec.Resources, r.group, exit)
	if err := r.end(exit); err != nil {
		return exit, advice.Add(err)
	}
	return exit, r.net.Left()
}

// end gives back what the container held, and removes or records it. What does not succeed
// the next sweep tries again, by the record that then stays.
func (r *Running) end(exit ending.Exit) error {
	_ = r.proc.Close()
	err := r.giveBack()
	remove := r.box.Spec.Life.Remove
	if err == nil && !remove {
		err = r.box.SetState(container.State{Status: container.Exited, Started: r.started, Finished: time.Now(),
			ExitCode: exit.Code, OOM: exit.OOM(), Message: exit.Message})
	}
	switch {
	case err != nil:
		r.box.Abandon()
		return err
	case remove && r.released:
		return r.box.Remove()
	case remove:
		return errors.Join(r.box.Remove(), image.Release(r.box.Dirs().Root, r.box.Spec))
	}
	return r.box.Unlock()
}

// giveBack ends what may still be alive and gives up all but the directory and the name.
func (r *Running) giveBack() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := ending.LeaveGroup(ctx, r.box.Spec, r.group); err != nil {
		return err
	}
	return errors.Join(r.net.End(), ending.GiveBack(r.box, r.claim, r.box.Spec.Life.Remove))
}
