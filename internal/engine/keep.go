package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/spec"
)

// A kept container is started by a process of its own, which executes one program after the
// other until the container has ended: LIFECYCLE.md, "Containers that live on". Here is the
// part of it that needs an engine.

// What the process of a kept container inherits.
const (
	lockFD  = 3
	readyFD = 4 // of keep begin: where it says how the start went; nothing in a restart

	stdinFD  = 6 // of the keeper, with 3 the lock, 4 the pidfd and 5 the terminal's master
	stdoutFD = 7
	stderrFD = 8
	notifyFD = 9
)

// Origin is who asks for a start.
type Origin string

// Origins of a start, as keep start is told.
const (
	ByRun     Origin = "run"     // the container was made for it, and goes with it if it does not succeed
	ByStart   Origin = "start"   // start, restart, boot
	ByRestart Origin = "restart" // its restart policy: nobody is waiting
)

// startKept starts a container whose lock we have, and waits until it runs. The lock then
// belongs to its keeper.
func (e *Engine) startKept(ctx context.Context, box *container.Container, by Origin) error {
	dir := container.KeepDir(e.dirs(), box.Spec.ID)
	if err := freshDir(dir); err != nil {
		box.Abandon()
		return errs.Wrap("make folder of keeper", dir, err)
	}
	rd, wr, err := os.Pipe()
	if err != nil {
		box.Abandon()
		return errs.Wrap("make pipe", "", err)
	}
	defer rd.Close()
	err = e.spawn(dir, box.Lock(), wr, e.notifyOrders(box.Spec).Socket, e.self(), "keep", "begin", string(box.Spec.ID), string(by))
	wr.Close()
	if err != nil {
		box.Abandon()
		return err
	}
	box.Disown()
	stop := context.AfterFunc(ctx, func() { _ = rd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := io.ReadAll(rd)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return errs.Wrap("wait for start of container", box.Spec.Name, err)
	}
	if len(b) == 0 {
		_ = os.Remove(filepath.Join(dir, "keeper")) // who adopts writes it anew
		return e.startLost(ctx, box.Spec, by)
	}
	return readReply(b, box.Spec.Name)
}

// startLost finds out about a start whose process was killed before it told anybody. If that had
// come so far that the container is adopted, it is started.
func (e *Engine) startLost(ctx context.Context, c *spec.Container, by Origin) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := os.Stat(filepath.Join(container.KeepDir(e.dirs(), c.ID), keeper.OrdersName))
	begun := err == nil
	for ctx.Err() == nil { // what it had open may take a moment to be closed
		if err = e.sweep(); err != nil || begun && e.keeperOf(c.ID) != 0 {
			return err
		}
		brief, done := context.WithTimeout(ctx, 20*time.Millisecond)
		unlocked := container.AwaitUnlocked(brief, e.dirs(), c.ID)
		if done(); unlocked == nil {
			break
		}
	}
	if begun {
		return err
	}
	if s, lerr := container.Load(e.dirs(), c.ID); lerr == nil && by == ByRun {
		err = e.removeFound(ctx, s, true)
	}
	return errors.Join(errs.Newf(errs.Other, "start container", c.Name, "the process that started it was killed").WithHint("start it again"), err)
}

// freshDir makes an empty directory for us alone.
func freshDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o700)
}

// reply is what keep start says about a start that did not succeed.
type reply struct {
	Kind   errs.Kind `json:"kind"`
	Op     string    `json:"op,omitempty"`
	Object string    `json:"object,omitempty"`
	Text   string    `json:"text"`
	Hint   string    `json:"hint,omitempty"`
}

const started = "ok"

func readReply(b []byte, name string) error {
	if string(b) == started {
		return nil
	}
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return errs.Wrap("start container", name, err)
	}
	return errs.Newf(r.Kind, r.Op, r.Object, r.Text).WithHint(r.Hint)
}

// sayReply tells how the start went. That a command could not be executed is told as such: a
// face has exit codes for it.
func sayReply(w io.Writer, err error) {
	if err == nil {
		_, _ = io.WriteString(w, started)
		return
	}
	r := reply{Kind: errs.KindOf(err), Text: err.Error(), Hint: errs.HintOf(err)}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*errs.Error); ok && x.Op == "execute" && x.Err != nil {
			r.Op, r.Object, r.Text = x.Op, x.Object, x.Err.Error()
		}
	}
	b, _ := json.Marshal(r)
	_, _ = w.Write(b)
}

// self is this program. An upgrade has put a new one in its place.
func (e *Engine) self() string {
	path, _ := os.Readlink("/proc/self/exe")
	return strings.TrimSuffix(path, " (deleted)")
}

// spawn starts a program that looks after a container: in a session of its own, without
// anything of ours but the lock and, as descriptor 4, ready. It does not end with our session or
// service either, unless it is to notify that one's manager: at the socket notify.
func (e *Engine) spawn(dir string, lock, ready *os.File, notify, program string, args ...string) error {
	if filepath.Base(program) != "corten-keeper" {
		args = append([]string{"--root", e.cfg.Root, "--run", e.cfg.Run}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.ExtraFiles = []*os.File{lock}
	if ready != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, ready)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if notify != "" { // the manager listens only to processes of the service
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	} else if fd := cgroup.OpenKeepers(); fd >= 0 {
		defer unix.Close(fd)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
	if err := cmd.Start(); err != nil {
		return errs.Wrap("start", program, err)
	}
	if dir == "" {
		return cmd.Process.Release()
	}
	_ = os.WriteFile(filepath.Join(dir, "keeper"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	return cmd.Process.Release()
}

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

// KeepStart is the process of a kept container from its beginning to the launch; then it is
// the keeper. It returns only if that did not come about.
func (e *Engine) KeepStart(ctx context.Context, id spec.ContainerID, by Origin) error {
	box, err := container.Inherit(e.dirs(), id, os.NewFile(lockFD, "lock"))
	if err != nil {
		return err
	}
	var ready *os.File
	if by != ByRestart {
		ready = os.NewFile(readyFD, "ready")
		unix.CloseOnExec(readyFD)
	}
	k, err := e.launchKept(ctx, box, by)
	settled := error(nil)
	if err != nil {
		settled = e.notStarted(box, by, err)
	} else {
		e.announce(box.Spec)
	}
	if ready != nil { // now that nothing is left to wait for
		sayReply(ready, advise(err))
		ready.Close()
	}
	if err != nil {
		return settled
	}
	return k.hand()
}

// notStarted settles the state of a container that could not be started.
func (e *Engine) notStarted(box *container.Container, by Origin, cause error) error {
	if by == ByRun {
		return errors.Join(box.Discard(), releaseImage(box.Dirs(), box.Spec), removeVolumes(e.cfg.Root, box.Spec.AnonymousVolumes()))
	}
	st, err := container.ReadState(e.dirs(), box.Spec.ID)
	if err != nil {
		box.Abandon()
		return err
	}
	st.ExitCode, st.Message = codeOf(cause), cause.Error()
	if by == ByRestart {
		st.Status, st.PID, st.StartTicks, st.Groups = container.Exited, 0, 0, nil
	}
	if err := errors.Join(box.SetState(st), container.ForgetRun(e.dirs(), box.Spec.ID)); err != nil {
		box.Abandon()
		return err
	}
	return box.Unlock()
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

// kept is a container that has just been launched for a keeper.
type kept struct {
	e    *Engine
	d    *draft
	by   Origin
	proc *launch.Process
	dir  string // KeepDir
	std  *stdio
	ears *os.File // the socket that the container notifies; nil: it has none
}

// launchKept launches a container from what is on disk, and writes down all that its keeper
// has to know. What was begun is undone on an error.
func (e *Engine) launchKept(ctx context.Context, box *container.Container, by Origin) (*kept, error) {
	// A restart may find what a killed one left.
	stale, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := destroyGroup(stale, box.Groups()); err != nil {
		return nil, err
	}
	dir := container.KeepDir(e.dirs(), box.Spec.ID)
	if err := clearRun(dir); err != nil {
		return nil, errs.Wrap("clear folder of keeper", dir, err)
	}
	d, err := e.again(ctx, box)
	if err == nil {
		k := &kept{e: e, d: d, by: by, dir: dir}
		if err = k.launch(); err == nil {
			return k, nil
		}
	}
	if d != nil {
		d.retreat()
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

// retreat gives back what a start has claimed, but not the container.
func (d *draft) retreat() {
	for _, v := range d.volumes {
		_ = v.Close()
	}
	if d.grouped {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = destroyGroup(ctx, d.groups.Group)
	}
	if d.claim != 0 {
		_ = container.ReleaseIDs(d.e.dirs(), d.c.ID, d.claim)
	}
}

func (k *kept) launch() error {
	std, err := k.openIO()
	if err != nil {
		return err
	}
	k.std = std
	k.d.guards = std.guards
	if k.ears, err = k.d.listen(); err != nil {
		return err
	}
	p, err := k.d.plan()
	if err != nil {
		return err
	}
	std.use(&p)
	if err := k.d.settleVolumes(); err != nil {
		return err
	}
	env := launch.Env{Files: std.files, MakeGroups: k.d.makeGroups, Seeded: k.d.seeded}
	if k.by == ByRestart { // nobody waits to be told: from the beginning it is adopted if we are killed
		env.Waits = k.record
	}
	if k.proc, err = launch.Start(p, env); err != nil {
		return err
	}
	if k.by != ByRestart {
		err = k.record(k.proc.PID)
	}
	if err == nil {
		err = os.RemoveAll(filepath.Join(k.dir, "rest"))
	}
	if err != nil {
		_ = k.proc.Signal(unix.SIGKILL)
		_, _ = k.proc.Wait()
		return errs.Wrap("begin container", k.d.c.Name, err)
	}
	k.e.tell(k.d.c, "start", nil)
	return nil
}

// record says that the container runs, and what its keeper has to know. Once the orders are
// there it is adopted rather than killed if we are.
func (k *kept) record(pid int) error {
	id := k.d.c.ID
	old, err := container.ReadState(k.e.dirs(), id)
	if err != nil {
		return err
	}
	st := container.State{Status: container.Running, PID: pid, StartTicks: container.Ticks(pid), Groups: k.d.groups.Group, Kept: true, Started: time.Now()}
	if k.by == ByRestart {
		st.Restarts, st.Attempts = old.Restarts, old.Attempts
	}
	if err := k.d.box.SetState(st); err != nil {
		return err
	}
	if err := k.e.beginHealth(k.d.c); err != nil {
		return err
	}
	o := k.e.ordersOf(k.d.c)
	o.PID, o.Start = st.PID, st.StartTicks
	return o.Write(k.dir)
}

// ordersOf is what a container's keeper has to know of its description.
func (e *Engine) ordersOf(c *spec.Container) keeper.Orders {
	l := c.Life.Log
	o := keeper.Orders{ID: string(c.ID), Root: e.cfg.Root, Run: e.cfg.Run, Corten: e.self(),
		Terminal: c.Process.Terminal, Init: !c.Life.NoInit, Guard: lockFD + 1}
	o.Log = keeper.LogOrders{Compress: !l.Uncompressed, NonBlocking: l.NonBlocking, Buffer: l.Buffer, Off: l.Off}
	o.Notify = e.notifyOrders(c)
	o.Log.Size, o.Log.Files = logLimits(l)
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
func (k *kept) hand() error {
	files := make([]*os.File, notifyFD-lockFD+1) // as keeper.Keep wants them
	files[0], files[1], files[2] = k.d.box.Lock(), k.proc.PIDFD(), k.proc.Terminal
	files[stdinFD-lockFD], files[notifyFD-lockFD] = k.std.files["stdin-hold"], k.ears
	files[stdoutFD-lockFD], files[stderrFD-lockFD] = k.std.files["guard-stdout"], k.std.files["guard-stderr"]
	program, err := helper("corten-keeper")
	if err != nil {
		return err
	}
	if k.e.notifyOrders(k.d.c).Socket == "" {
		runtime.LockOSThread() // the one that executes
		cgroup.EnterKeepers()
	}
	if err := pass(files...); err != nil {
		return errs.Wrap("pass descriptors to", program, err)
	}
	return keeper.Become(program, k.e.cfg.Root, k.e.cfg.Run, string(k.d.c.ID))
}

// adopt starts a process for a container whose keeper was killed, or whatever the keeper
// had become. The lock is still that one's.
func (e *Engine) adopt(id spec.ContainerID, lock *os.File) error {
	dir := container.KeepDir(e.dirs(), id)
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	program, err := helper("corten-keeper")
	if err != nil {
		return err
	}
	switch {
	case there("rest") && !released(dir):
		return e.spawn(dir, lock, nil, "", program, "rest", e.cfg.Root, e.cfg.Run, string(id))
	case there("ended"):
		return e.spawn(dir, lock, nil, "", e.self(), "keep", "end", string(id))
	}
	if err := os.RemoveAll(filepath.Join(dir, "rest")); err != nil {
		return err
	}
	return e.spawn(dir, lock, nil, "", program, e.cfg.Root, e.cfg.Run, string(id))
}

// released reports whether a restart whose process was killed had come so far that the
// container runs: its process executes another program than ours.
func released(dir string) bool {
	o, err := keeper.ReadOrders(dir)
	if err != nil || container.Ticks(o.PID) != o.Start {
		return false
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(o.PID) + "/comm")
	return err == nil && string(comm) != "corten\n"
}

// signalKeeper sends a signal to the process that looks after a container, once it is a keeper:
// that is only a matter of a moment, and the programs before and after it would die of it.
func (e *Engine) signalKeeper(id spec.ContainerID, sig unix.Signal) {
	for range 200 {
		pid := e.keeperOf(id)
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if pid == 0 || err != nil {
			return
		}
		if strings.HasPrefix(string(comm), "corten-keeper") {
			_ = unix.Kill(pid, sig)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keeperOf is the pid of the process that looks after a kept container; 0 if it is not known.
func (e *Engine) keeperOf(id spec.ContainerID) int {
	b, err := os.ReadFile(filepath.Join(container.KeepDir(e.dirs(), id), "keeper"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(b)))
	return pid
}
