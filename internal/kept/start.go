package kept

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// What the process of a kept container inherits.
const (
	lockFD  = 3
	readyFD = 4 // of keep begin: where it says how the start went; nothing in a restart

	stdinFD  = 6 // of the keeper, with 3 the lock, 4 the pidfd and 5 the terminal's master
	stdoutFD = 7
	stderrFD = 8
	notifyFD = 9
	udpFD    = 10 // of the server of names, with tcpFD
	tcpFD    = 11
	portsFD  = 12
)

// Origin is who asks for a start.
type Origin string

// Origins of a start, as keep start is told.
const (
	ByRun     Origin = "run"     // the container was made for it, and goes with it if it does not succeed
	ByStart   Origin = "start"   // start, restart, boot
	ByRestart Origin = "restart" // its restart policy: nobody is waiting
	ByRestore Origin = "restore" // from its checkpoint
	ByImport  Origin = "import"  // from a checkpoint that came with it: it goes with it if it does not succeed
)

// made reports whether the container was made for the start.
func (o Origin) made() bool { return o == ByRun || o == ByImport }

// resumes reports whether the container is made of a checkpoint.
func (o Origin) resumes() bool { return o == ByRestore || o == ByImport }

// StartLocked starts a container whose lock we have, and waits until it runs. The lock then
// belongs to its keeper; after an error it is nobody's. That a command could not be executed has the
// operation "execute", as if we had tried it ourselves.
func StartLocked(ctx context.Context, site draft.Site, box *container.Container, by Origin) error {
	dir := container.KeepDir(site.Dirs, box.Spec.ID)
	if err := freshDir(dir); err != nil {
		forsake(box, by)
		return errs.Wrap("make folder of keeper", dir, err)
	}
	rd, wr, err := os.Pipe()
	if err != nil {
		forsake(box, by)
		return errs.Wrap("make pipe", "", err)
	}
	defer rd.Close()
	err = spawn(site.Dirs, dir, passed{lock: box.Lock(), ready: wr}, notifyOrders(site.Notify, box.Spec).Socket, programs.Corten(), "keep", "begin", string(box.Spec.ID), string(by))
	wr.Close()
	if err != nil {
		forsake(box, by)
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
		return startLost(ctx, site.Dirs, box.Spec, by)
	}
	return readReply(b, box.Spec.Name)
}

// forsake lets go of a container that no process could be started for. One that was made for this start goes with it; what
// cannot be removed now the next sweep removes.
func forsake(box *container.Container, by Origin) {
	if !by.made() {
		box.Abandon()
		return
	}
	_ = container.ForgetRun(box.Dirs(), box.Spec.ID)
	_ = Unmake(box)
}

// startLost finds out about a start whose process was killed before it told anybody. If that had
// come so far that the container is adopted, it is started.
func startLost(ctx context.Context, dirs container.Dirs, c *spec.Container, by Origin) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := os.Stat(filepath.Join(container.KeepDir(dirs, c.ID), keeper.OrdersName))
	begun := err == nil
	for ctx.Err() == nil { // what it had open may take a moment to be closed
		if err = Sweep(dirs); err != nil || begun && keeperOf(dirs, c.ID) != 0 {
			return err
		}
		brief, done := context.WithTimeout(ctx, 20*time.Millisecond)
		unlocked := container.AwaitUnlocked(brief, dirs, c.ID)
		if done(); unlocked == nil {
			break
		}
	}
	if begun {
		return err
	}
	if s, lerr := container.Load(dirs, c.ID); lerr == nil && by.made() {
		err = ending.Remove(ctx, dirs, s, true)
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

const started = "ok"

func readReply(b []byte, name string) error {
	if string(b) == started {
		return nil
	}
	var p errs.Parts
	if err := json.Unmarshal(b, &p); err != nil {
		return errs.Wrap("start container", name, err)
	}
	return p.Whole()
}

// sayReply tells how the start went. That a command could not be executed is told as such: a
// face has exit codes for it.
func sayReply(w io.Writer, err error) {
	if err == nil {
		_, _ = io.WriteString(w, started)
		return
	}
	// Whoever reads this says that the container was not started; only an "execute" is kept apart.
	p := errs.Parts{Kind: errs.KindOf(err), Text: err.Error(), Hint: errs.HintOf(err)}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*errs.Error); ok && x.Op == "execute" && x.Err != nil {
			p.Op, p.Object, p.Text = x.Op, x.Object, x.Err.Error()
		}
	}
	b, _ := json.Marshal(p)
	_, _ = w.Write(b)
}

// passed is what a program that looks after a container is given; all of it may be nil.
type passed struct {
	lock  *os.File
	ready *os.File // as descriptor 4; who is given this becomes a keeper
	ports *os.File // as descriptor 12
}

// spawn starts a program that looks after a container: in a session of its own, without
// anything of ours but what it is given. Who becomes a keeper
// finds the numbers of what keepers inherit taken: else Go's poller may have one of them, and a
// program does not outlive that its poller's descriptor becomes something else. It does not end with our session or
// service either, unless it is to notify that one's manager: at the socket notify.
func spawn(dirs container.Dirs, dir string, give passed, notify, program string, args ...string) error {
	if err := nest.Settle(); err != nil {
		return err
	}
	if filepath.Base(program) != "corten-keeper" {
		args = append([]string{"--root", dirs.Root, "--run", dirs.Run}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, slices.Concat(nest.Environ(), cni.Environ(), criu.Environ())...)
	cmd.ExtraFiles = []*os.File{give.lock}
	if give.ready != nil || give.ports != nil {
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			return errs.Wrap("start", program, err)
		}
		defer null.Close()
		for range portsFD - lockFD {
			cmd.ExtraFiles = append(cmd.ExtraFiles, null)
		}
		if give.ready != nil {
			cmd.ExtraFiles[readyFD-lockFD] = give.ready
		}
		if give.ports != nil {
			cmd.ExtraFiles[portsFD-lockFD] = give.ports
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if notify != "" { // the manager listens only to processes of the service
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	} else if fd := cgroup.OpenKeepers(); fd >= 0 {
		defer unix.Close(fd)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
	// What a shell has open without saying so to be closed, such as the lock of flock(1), is not the
	// keeper's to hold for as long as the container runs (close_range(2), Linux 5.11).
	_ = unix.CloseRange(lockFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		return errs.Wrap("start", program, err)
	}
	if dir == "" {
		return cmd.Process.Release()
	}
	_ = os.WriteFile(filepath.Join(dir, "keeper"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	return cmd.Process.Release()
}

// Start starts a container that is on disk, with a keeper. It is no error if it runs; one that
// waits for its next start has it now.
func Start(ctx context.Context, site draft.Site, s container.Snapshot, by Origin) error {
	dirs := site.Dirs
	if s.State.Status == container.Restarting {
		SignalKeeper(dirs, s.Spec.ID, unix.SIGTERM) // it ends the pause
		return nil
	}
	if s.State.Alive() {
		return nil
	}
	group, err := draft.GroupOf(s.Spec)
	if err != nil {
		return err
	}
	box, err := container.Open(dirs, s.Spec, group, container.Kept)
	if errs.Is(err, errs.Busy) { // it is ending, or somebody else starts it
		brief, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		running, werr := container.AwaitIdle(brief, dirs, s.Spec.ID)
		if werr != nil {
			return errs.Newf(errs.Busy, "start container", s.Spec.Name, "another command is busy with it").WithHint("try again")
		}
		if running {
			return nil
		}
		box, err = container.Open(dirs, s.Spec, group, container.Kept)
	}
	if container.Gone(err) {
		if _, ferr := container.Find(dirs, string(s.Spec.ID)); ferr != nil {
			return ferr // removed meanwhile
		}
	}
	if err != nil {
		return err
	}
	return advice.Add(StartLocked(ctx, site, box, by))
}

// AskEnd leaves word that a user wants a container to end, so that it is not started again.
func AskEnd(dirs container.Dirs, s container.Snapshot) error {
	if !s.State.Kept {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(container.KeepDir(dirs, s.Spec.ID), "stop"), os.O_CREATE|os.O_WRONLY, 0o600)
	if container.Gone(err) {
		return nil // it has ended
	}
	if err != nil {
		return errs.Wrap("stop container", s.Spec.Name, err)
	}
	return f.Close()
}

// UnaskEnd takes back AskEnd, of a container that runs on.
func UnaskEnd(dirs container.Dirs, s container.Snapshot) {
	_ = os.Remove(filepath.Join(container.KeepDir(dirs, s.Spec.ID), "stop"))
}
