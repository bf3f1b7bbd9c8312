package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// ExecRequest is a command to be executed in a container that runs.
type ExecRequest struct {
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

// Executing is a command in a container that this process started and has to wait for.
type Executing struct {
	ID       string   // of this execution, for events
	PID      int      // as the host sees it
	Terminal *os.File // the master side; nil without a terminal

	e     *Engine
	box   container.Snapshot
	words string // of the command, for events
	proc  *launch.Process
	relay *relay
	kills int // how often memory had run out before
}

// Exec starts a command in a container.
func (e *Engine) Exec(ctx context.Context, ref string, req ExecRequest) (*Executing, error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	x := &Executing{ID: string(container.NewID()), e: e, box: s, words: strings.Join(req.Args, " ")}
	if err := x.start(ctx, req); err != nil {
		return nil, advise(err)
	}
	x.tell("exec_create: "+x.words, nil)
	x.tell("exec_start: "+x.words, nil)
	return x, nil
}

func (x *Executing) tell(action string, more map[string]string) {
	if more == nil {
		more = map[string]string{}
	}
	more["execID"] = x.ID
	x.e.tell(x.box.Spec, action, more)
}

func (x *Executing) start(ctx context.Context, req ExecRequest) error {
	t, err := openTarget(x.box)
	if err != nil {
		return err
	}
	defer t.close()
	c := *x.box.Spec
	c.Namespaces.User.UIDMap, c.Namespaces.User.GIDMap = t.maps("uid_map"), t.maps("gid_map")
	in := plan.ExecInput{
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
	if in.Filter, err = x.e.filter(sec); err != nil {
		return err
	}
	if in.Host, err = modules(sec); err != nil {
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
func (x *Executing) join(ctx context.Context, in plan.ExecInput, t *target, req ExecRequest) error {
	p, err := plan.MakeExec(in)
	if err != nil {
		return err
	}
	files := map[plan.Handle]*os.File{plan.Target: t.pidfd, plan.TargetRoot: t.root}
	x.relay = &relay{}
	switch {
	case req.Output != nil:
		files["output"] = req.Output
		useStdio(&p, plan.Stdio{NoStdin: true, Out: "output", Err: "output"})
	case !req.Detached:
		if x.relay, err = newRelay(in.Process, &p, files, nil); err != nil {
			return err
		}
	}
	x.proc, err = launch.Join(ctx, p, launch.Env{Files: files})
	x.relay.started()
	if err != nil {
		return err
	}
	x.PID, x.Terminal = x.proc.PID, x.proc.Terminal
	return nil
}

func useStdio(p *plan.Plan, std plan.Stdio) {
	for i, s := range p.Child {
		if _, ok := s.(plan.Stdio); ok {
			p.Child[i] = std
		}
	}
}

// Signal sends a signal to the command.
func (x *Executing) Signal(sig unix.Signal) error { return x.proc.Signal(sig) }

// Wait waits for the end of the command.
func (x *Executing) Wait() (Exit, error) {
	st, err := x.proc.Wait()
	if err != nil {
		return Exit{}, err
	}
	_ = x.proc.Close()
	x.relay.wait()
	exit := Exit{Code: st.Code, Signal: st.Signal}
	if st.Signal != 0 {
		exit.Code = 128 + int(st.Signal)
	}
	if limit := x.box.Spec.Resources.Memory.Limit; limit > 0 && exit.Signal == unix.SIGKILL && groupOf(x.box).OOMKills() > x.kills {
		exit.Message = "out of memory: limit " + sizeWords(limit)
	}
	x.tell("exec_die", map[string]string{"exitCode": strconv.Itoa(exit.Code)})
	return exit, nil
}

// Leave lets go of a command that goes on by itself. Its terminal would hang up if nobody held
// it: a process of ours does so, and reads what is written to it, until the command ends.
func (x *Executing) Leave() error {
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

// ExecOutput executes a command and returns how it ended and the first most bytes of what it
// wrote. When ctx is done it and what it has started are killed.
func (e *Engine) ExecOutput(ctx context.Context, ref string, args []string, most int) (int, []byte, error) {
	rd, w, err := os.Pipe()
	if err != nil {
		return 0, nil, errs.Wrap("make pipe", "", err)
	}
	defer rd.Close()
	x, err := e.Exec(ctx, ref, ExecRequest{Args: args, Output: w})
	_ = w.Close()
	if err != nil {
		return 0, nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = unix.Kill(-x.PID, unix.SIGKILL) // its session: it is not reaped before Wait, so the number is its own
		_ = x.Signal(unix.SIGKILL)
		_ = rd.Close() // somebody who left the session may have the other end
	})
	read := make(chan []byte, 1)
	go func() { read <- readAtMost(rd, most) }()
	exit, err := x.Wait()
	if !stop() {
		return exit.Code, <-read, errs.New(errs.Canceled, "execute", args[0], context.Cause(ctx))
	}
	// What it leaves in the background may keep the pipe open for ever: what is in it counts.
	_ = rd.SetReadDeadline(time.Now().Add(linger))
	return exit.Code, <-read, err
}

// target is a container to be entered: its first process, whatever becomes of its number.
type target struct {
	pid   int
	pidfd *os.File
	proc  *os.File // its directory in /proc, O_PATH
	root  *os.File // its root directory, O_PATH
	group cgroup.Group
}

func notRunning(c *spec.Container) error {
	return errs.Newf(errs.Invalid, "enter container", c.Name, "it is not running").WithHint("corten start starts it")
}

// openTarget opens a container that runs.
func openTarget(s container.Snapshot) (*target, error) {
	if s.State.Status != container.Running {
		return nil, notRunning(s.Spec)
	}
	if frozen(s) {
		return nil, errs.Newf(errs.Invalid, "enter container", s.Spec.Name, "it is paused").WithHint("corten unpause lets it go on")
	}
	t := &target{pid: s.State.PID, group: groupOf(s)}
	gone := func(err error) (*target, error) {
		t.close()
		if err == unix.EACCES || err == unix.EPERM {
			return nil, errs.Wrap("enter container", s.Spec.Name, err)
		}
		return nil, notRunning(s.Spec)
	}
	proc, err := unix.Open("/proc/"+strconv.Itoa(t.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	t.proc = os.NewFile(uintptr(proc), "proc")
	if t.pidfd, err = s.Process(); err != nil {
		return gone(err)
	}
	root, err := unix.Openat(proc, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	t.root = os.NewFile(uintptr(root), "root")
	if !t.alive() { // else the directory was that of the process, and not of another with its number
		return gone(nil)
	}
	if t.group.Full() {
		t.close()
		return nil, errs.Newf(errs.Unavailable, "enter container", s.Spec.Name, "its limit of processes is met").
			WithHint("raise it: corten update --pids-limit")
	}
	return t, nil
}

func (t *target) close() {
	_, _, _ = t.pidfd.Close(), t.proc.Close(), t.root.Close() // a nil file says so
}

// maps reads a map of its user namespace, which may have been chosen when it was started.
func (t *target) maps(name string) []spec.IDMap {
	fd, err := unix.Openat(int(t.proc.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var maps []spec.IDMap
	for line := range strings.Lines(string(readAtMost(f, maxAccounts))) {
		var m spec.IDMap
		if n, _ := fmt.Sscan(line, &m.Container, &m.Host, &m.Size); n == 3 {
			maps = append(maps, m)
		}
	}
	return maps
}

func (t *target) alive() bool {
	return unix.PidfdSendSignal(int(t.pidfd.Fd()), 0, nil, 0) == nil
}

// groupOf is the container's groups: as its state says, or else those of its first process.
func groupOf(s container.Snapshot) cgroup.Group {
	if len(s.State.Groups) > 0 || s.State.PID == 0 {
		return s.State.Groups
	}
	var g cgroup.Group
	for _, t := range cgroupsOf(s.State.PID) {
		if strings.Contains(t, string(s.Spec.ID)) {
			g = append(g, t)
		}
	}
	return g
}

// own is the group of cgroup v2 that the container's first process is in.
func (t *target) own() string {
	host := cgroup.Detect()
	if i := slices.IndexFunc(cgroupsOf(t.pid), func(d string) bool { return strings.HasPrefix(d, host.V2.Mount+"/") }); host.V2.Mount != "" && i >= 0 {
		return cgroupsOf(t.pid)[i]
	}
	return ""
}

// cgroupsOf is the directories of the groups that a process is in, cgroups(7).
func cgroupsOf(pid int) []string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	host := cgroup.Detect()
	var dirs []string
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, group, _ := strings.Cut(rest, ":")
		if names == "" && host.V2.Mount != "" {
			dirs = append(dirs, path.Join(host.V2.Mount, group))
		}
		for _, t := range host.V1 {
			if names != "" && strings.Join(t.Controllers, ",") == names {
				dirs = append(dirs, path.Join(t.Mount, group))
			}
		}
	}
	return dirs
}

// maxAccounts is how large a container's passwd or group may be to be looked at: bytes.
const maxAccounts = 4 << 20

// accounts reads the container's own passwd and group. Anything may be in their place.
func (t *target) accounts() (a plan.Accounts, err error) {
	if a.Passwd, err = t.read("etc/passwd"); err != nil {
		return a, err
	}
	a.Group, err = t.read("etc/group")
	return a, err
}

// read reads a regular file of the container; one that is missing or is no file is empty. It
// is not opened before it is known to be one: a FIFO would have us wait.
func (t *target) read(name string) ([]byte, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	found, err := unix.Openat2(int(t.root.Fd()), name, &how)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil, nil
	default:
		return nil, errs.Wrap("open in the container", "/"+name, err)
	}
	defer unix.Close(found)
	var st unix.Stat_t
	if err := unix.Fstat(found, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxAccounts {
		return nil, err
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(found))
	if err != nil {
		return nil, errs.Wrap("open in the container", "/"+name, err)
	}
	defer f.Close()
	return readAtMost(f, maxAccounts), nil
}

// readAtMost reads to the end and keeps the first most bytes.
func readAtMost(f *os.File, most int) []byte {
	var kept []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		kept = append(kept, buf[:min(n, most-len(kept))]...)
		if err != nil {
			return kept
		}
	}
}

// HideArguments blanks this process's command line before it shows in a container. The caller
// must have copies of what it still needs.
func HideArguments() { launch.HideArguments() }
