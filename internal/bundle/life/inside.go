package life

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
)

// What a hook has as stdin, stdout and stderr.
var hookStdio = plan.Stdio{In: "state", Out: "null", Err: "said"}

// beingMade plans a hook for a container that sees the host's files still, with its own at the place
// of its root.
func beingMade(h hook, s *record.State) (plan.Plan, error) {
	v2, tasks := s.Groups.Enter()
	return decide.MakeHelper(decide.Helper{Container: s.Container, V2: v2, Enter: tasks, Std: hookStdio, Dir: s.Container.Root.Path,
		Path: h.Path, Args: argsOf(h), Env: h.Env}), nil
}

// startHooks runs those that are to be run in a container before its command.
func startHooks(ctx context.Context, place record.Place, s *record.State) error {
	if len(s.Hooks.StartContainer) == 0 {
		return nil
	}
	if err := described(place, s); err != nil {
		return err
	}
	return hooksInside(ctx, s.Hooks.StartContainer, s, record.Created, func(h hook, s *record.State) (plan.Plan, error) {
		return made(place.Root, h, s)
	})
}

// made plans a hook for a container that waits to be started: it is executed as the command will be,
// with no more rights.
func made(root string, h hook, s *record.State) (plan.Plan, error) {
	c := *s.Container
	c.Process.Args, c.Process.Env, c.Process.Terminal = argsOf(h), h.Env, false
	in, err := further(root, s, &c, nil)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := decide.MakeExec(in)
	if err != nil {
		return plan.Plan{}, err
	}
	p.UseStdio(hookStdio)
	last := len(p.Child) - 1
	if e, ok := p.Child[last].(plan.Exec); ok {
		e.Paths = []string{h.Path}
		p.Child[last] = e
	}
	return p, nil
}

func argsOf(h hook) []string {
	if len(h.Args) > 0 {
		return h.Args
	}
	return []string{h.Path}
}

// hooksInside runs hooks in a container's namespaces, up to the first that fails. They are told the
// number that the container knows its process by (runtime.md, "State").
func hooksInside(ctx context.Context, list []hook, s *record.State, status record.Status, how func(hook, *record.State) (plan.Plan, error)) error {
	for _, h := range list {
		p, err := how(h, s)
		if err != nil {
			return errs.Wrap("plan hook", h.Path, err)
		}
		pid, err := pidInside(s.PID)
		if err != nil {
			return errs.Wrap("run hook", h.Path, err)
		}
		state, err := tell(s, status, pid)
		if err != nil {
			return err
		}
		ctx, cancel := within(ctx, h)
		files, r, err := hookFiles(s.PID, state)
		said := ""
		if err == nil {
			said, err = joined(ctx, p, launch.Env{Files: files, Listener: toAgent(s, status)}, r)
		}
		for _, f := range files {
			_ = f.Close()
		}
		err = failed(ctx, h, err, said)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// joined executes the plan of a hook, and waits for its end. What it says is read from r.
func joined(ctx context.Context, p plan.Plan, env launch.Env, r *os.File) (said string, err error) {
	defer r.Close()
	proc, err := launch.Join(ctx, p, env)
	if err != nil {
		return "", err
	}
	defer proc.Close()
	_ = env.Files[hookStdio.Err].Close()
	delete(env.Files, hookStdio.Err)
	read := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	stop := context.AfterFunc(ctx, func() { _ = proc.Signal(unix.SIGKILL) })
	status, err := proc.Wait()
	stop()
	_ = r.SetReadDeadline(time.Now().Add(leftTime))
	said = <-read
	switch {
	case err != nil:
	case status.Signal != 0:
		err = fmt.Errorf("signal: %v", status.Signal)
	case status.Code != 0:
		err = fmt.Errorf("exit status %d", status.Code)
	}
	return said, err
}

// hookFiles opens what a hook gets, and the end to read what it says from.
func hookFiles(pid int, state []byte) (files map[plan.Handle]*os.File, r *os.File, err error) {
	files = map[plan.Handle]*os.File{}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return files, nil, errs.Wrap("open process", strconv.Itoa(pid), err)
	}
	files[plan.Target] = os.NewFile(uintptr(fd), "container")
	root, err := openRoot(pid)
	if err != nil {
		return files, nil, errs.Wrap("open root of process", strconv.Itoa(pid), err)
	}
	files[plan.TargetRoot] = root
	if fd, err = unix.MemfdCreate("state", unix.MFD_CLOEXEC); err != nil {
		return files, nil, errs.Wrap("make file for", "the state", err)
	}
	in := os.NewFile(uintptr(fd), "state")
	files[hookStdio.In] = in
	if _, err = in.Write(state); err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	if err != nil {
		return files, nil, errs.Wrap("write", "the state", err)
	}
	if files[hookStdio.Out], err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
		delete(files, hookStdio.Out)
		return files, nil, errs.Wrap("open", os.DevNull, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return files, nil, errs.Wrap("make pipe", "", err)
	}
	files[hookStdio.Err] = w
	return files, r, nil
}

// pidInside is the number of a process in its own pid namespace, proc_pid_status(5).
func pidInside(pid int) (int, error) {
	text, err := disk.Read("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	f := strings.Fields(line)
	if len(f) == 0 {
		return pid, nil
	}
	return strconv.Atoi(f[len(f)-1])
}
