// Package enter executes commands in containers that run.
//
// A command is a child of this process, born in the container: it is started by what is found of
// the container's first process, copied to and from like a container in the foreground, and waited
// for, or left to the container. Health checks are such commands too.
package enter

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/relay"
	"github.com/cortenhq/corten/internal/spec"
)

// Request is a command to be executed in a container that runs.
type Request struct {
	Args       []string
	Env        []string // NAME=VALUE, over the container's; NAME alone takes a variable away
	User       string   // [USER|UID][:GROUP|GID]; empty: the container's
	Cwd        string   // empty: the container's
	Terminal   bool
	Size       *spec.Size // of the terminal
	Stdin      bool       // it reads this process's stdin
	Detached   bool       // nobody waits for it, and it writes nowhere
	Privileged bool
	Output     *os.File // takes stdout and stderr; nil: this process's own
}

// Command is a command in a container that this process started and has to wait for.
type Command struct {
	ID       string   // of this execution, for events
	PID      int      // as the host sees it
	Terminal *os.File // the master side; nil without a terminal

	dirs  container.Dirs
	box   container.Snapshot
	words string // of the command, for events
	proc  *launch.Process
	relay *relay.Relay
	kills int // how often memory had run out before
}

// Start starts a command in a container. An error of kind Invalid says that nobody can enter it now; of
// operation "execute", that it has no such command, or may not execute it.
func Start(ctx context.Context, dirs container.Dirs, s container.Snapshot, req Request) (*Command, error) {
	x := &Command{ID: string(container.NewID()), dirs: dirs, box: s, words: strings.Join(req.Args, " ")}
	if err := x.start(ctx, req); err != nil {
		return nil, advice.Add(err)
	}
	x.tell("exec_create: "+x.words, nil)
	x.tell("exec_start: "+x.words, nil)
	return x, nil
}

func (x *Command) tell(action string, more map[string]string) {
	if more == nil {
		more = map[string]string{}
	}
	more["execID"] = x.ID
	events.Tell(x.dirs.Root, x.box.Spec, action, more)
}

func (x *Command) start(ctx context.Context, req Request) error {
	t, err := openTarget(x.box)
	if err != nil {
		return err
	}
	defer t.close()
	c := *x.box.Spec
	c.Namespaces.User.UIDMap, c.Namespaces.User.GIDMap = t.maps("uid_map"), t.maps("gid_map")
	in := decide.ExecInput{
		Container: &c, Detached: req.Detached, Privileged: req.Privileged,
		Process: spec.Process{Args: req.Args, Env: req.Env, User: req.User, Cwd: req.Cwd, Terminal: req.Terminal, Stdin: req.Stdin, Size: req.Size},
	}
	if in.Accounts, err = t.accounts(); err != nil {
		return err
	}
	sec := x.box.Spec.Security
	if req.Privileged {
		sec.Capabilities = plan.AllCaps()
	}
	if in.Filter, err = draft.Filter(x.dirs.Run, sec); err != nil {
		return err
	}
	if in.Host, err = draft.Modules(sec); err != nil {
		return err
	}
	in.V2, in.Enter = t.group.Enter()
	if x.box.Spec.Resources.Memory.Limit > 0 {
		x.kills = t.group.OOMKills()
	}
	err = x.join(ctx, in, t, req)
	if errors.Is(err, unix.EBUSY) && in.V2 != "" && t.own() != in.V2 {
		// The container has groups of its own now: then its group may have no processes itself.
		in.V2 = t.own()
		err = x.join(ctx, in, t, req)
	}
	if err != nil && !t.alive() {
		return notRunning(x.box.Spec)
	}
	return err
}

// join plans and executes.
func (x *Command) join(ctx context.Context, in decide.ExecInput, t *target, req Request) error {
	p, err := decide.MakeExec(in)
	if err != nil {
		return err
	}
	files := map[plan.Handle]*os.File{plan.Target: t.pidfd, plan.TargetRoot: t.root}
	x.relay = &relay.Relay{}
	switch {
	case req.Output != nil:
		files["output"] = req.Output
		p.UseStdio(plan.Stdio{NoStdin: true, Out: "output", Err: "output"})
	case !req.Detached:
		if x.relay, err = relay.New(in.Process, &p, files, nil); err != nil {
			return err
		}
	}
	x.proc, err = launch.Join(ctx, p, launch.Env{Files: files})
	x.relay.Started()
	if err != nil {
		return err
	}
	x.PID, x.Terminal = x.proc.PID, x.proc.Terminal
	return nil
}

// Signal sends a signal to the command.
func (x *Command) Signal(sig unix.Signal) error { return x.proc.Signal(sig) }

// ended waits for the end of the command, and leaves it to Wait to reap it.
func (x *Command) ended() {
	fds := []unix.PollFd{{Fd: int32(x.proc.PIDFD().Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// Wait waits for the end of the command, and until its output is copied.
func (x *Command) Wait() (ending.Exit, error) {
	st, err := x.proc.Wait()
	if err != nil {
		return ending.Exit{}, err
	}
	_ = x.proc.Close()
	x.relay.Wait()
	exit := ending.Of(st)
	if limits := x.box.Spec.Resources; limits.Memory.Limit > 0 && exit.Signal == unix.SIGKILL && groupOf(x.box).OOMKills() > x.kills {
		exit.Message = ending.OutOfMemory(limits)
	}
	x.tell("exec_die", map[string]string{"exitCode": strconv.Itoa(exit.Code)})
	return exit, nil
}

// Leave lets go of a command that goes on by itself. Its terminal would hang up if nobody held
// it: a process of ours does so, and reads what is written to it, until the command ends.
func (x *Command) Leave() error {
	if x.Terminal != nil {
		hold := exec.Command("/proc/self/exe", "keep", "hold")
		hold.Args[0], hold.Stdin, hold.Dir = "corten", x.Terminal, "/"
		hold.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := hold.Start(); err != nil {
			return errs.Wrap("hold terminal", "", err)
		}
		_ = hold.Process.Release()
	}
	return x.proc.Close()
}

// linger is how long what a command left in the background is listened to.
const linger = 100 * time.Millisecond

// Output executes a command and returns how it ended and the first most bytes of what it wrote.
// When ctx is done it and what it has started are killed.
func Output(ctx context.Context, dirs container.Dirs, s container.Snapshot, args []string, most int) (int, []byte, error) {
	rd, w, err := os.Pipe()
	if err != nil {
		return 0, nil, errs.Wrap("make pipe", "", err)
	}
	defer rd.Close()
	x, err := Start(ctx, dirs, s, Request{Args: args, Output: w})
	_ = w.Close()
	if err != nil {
		return 0, nil, err
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		_ = unix.Kill(-x.PID, unix.SIGKILL) // its session: it is not reaped before Wait, so the number is its own
		_ = x.Signal(unix.SIGKILL)
		_ = rd.Close() // somebody who left the session may have the other end
	})
	read := make(chan []byte, 1)
	go func() { read <- readAtMost(rd, most) }()
	x.ended()
	late := !stop()
	if late {
		<-killed
	}
	exit, err := x.Wait()
	if late {
		return exit.Code, <-read, errs.New(errs.Canceled, "execute", args[0], context.Cause(ctx))
	}
	// What it leaves in the background may keep the pipe open for ever: what is in it counts.
	_ = rd.SetReadDeadline(time.Now().Add(linger))
	return exit.Code, <-read, err
}
