package launch

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/launch/compile"
	"github.com/cortenhq/corten/internal/plan"
)

// joining is a process on its way into a container that runs: the first is a child of ours
// in our own namespaces, each Fork makes another, and the last executes the program.
type joining struct {
	*host
	ours []*compile.Forked // all of them, in order
}

// Join executes a plan of decide.MakeExec. Nobody in the container must be able to trace or
// read the new process while it shares our memory: we give up being dumpable, for good. When
// ctx is done before the program has been executed, the process is killed.
func Join(ctx context.Context, p plan.Plan, env Env) (*Process, error) {
	if err := p.Check(slices.Collect(maps.Keys(env.Files))...); err != nil {
		return nil, err
	}
	j := &joining{host: &host{c: &compile.Program{}, fds: map[plan.Handle]int{}, release: -1, self: -1, stdio: stdioOf(p, env), env: env}}
	defer j.closeAll()
	if err := j.refuseFolders(); err != nil {
		return nil, err
	}
	if err := hideMemory(); err != nil {
		return nil, err
	}
	proc := &Process{}
	for _, s := range p.Host {
		var err error
		switch s := s.(type) {
		case plan.Clone:
			if err := j.start(ctx, p, proc); err != nil {
				j.hangUp()
				return nil, err // it quotes its own step
			}
		case plan.OpenPeer:
			err = j.openPeer(s, proc)
		case plan.HandOver: // start has done it
		default:
			err = j.run(s)
		}
		if err != nil {
			j.hangUp()
			return nil, errs.Wrap(s.String(), "", err)
		}
	}
	return proc, nil
}

// hangUp closes the terminal of a process that did not come to be.
func (j *joining) hangUp() {
	if ptm, ok := j.fds[ptmHandle]; ok {
		_ = unix.Close(ptm)
		delete(j.fds, ptmHandle)
	}
}

// ptmHandle is the master of a terminal until it is the caller's.
const ptmHandle plan.Handle = "launch:ptm"

// hideMemory makes this process undumpable, which all that share its memory then are. A new
// user makes a process what fs.suid_dumpable says, proc(5): the value 1 would undo it.
func hideMemory() error {
	if b, err := os.ReadFile("/proc/sys/fs/suid_dumpable"); err == nil && strings.TrimSpace(string(b)) == "1" {
		return errs.Newf(errs.Denied, "protect memory", "", "with fs.suid_dumpable=1 the container could read it").
			WithHint("sysctl -w fs.suid_dumpable=2")
	}
	return errs.Wrap("protect memory", "", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// start makes the first process and waits until the last has executed its program or died.
func (j *joining) start(ctx context.Context, p plan.Plan, proc *Process) error {
	if err := j.compile(p); err != nil {
		return err
	}
	b, err := j.c.Start(0, -1)
	if err != nil {
		return errs.Wrap(plan.Clone{}.String(), "", cloneHint(err))
	}
	j.ours = append([]*compile.Forked{compile.First(b)}, j.c.Forked()...)
	over, killed := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() { j.kill(over); close(killed) })
	handed := j.hand(p, b.PIDFD)
	b.Apart()
	close(over)
	late := !stop()
	if late {
		<-killed
	}
	last := j.leave()
	if err = handed; err == nil {
		err = j.whyNot(p)
	}
	switch {
	case late:
		err = errs.New(errs.Canceled, "start process", "", context.Cause(ctx))
	case err == nil && last < 0:
		err = errs.Newf(errs.Other, "start process", "", "it was killed on its way into the container")
	}
	if err != nil {
		end(last)
		return err
	}
	proc.PID, proc.pidfd = pidOf(last), os.NewFile(uintptr(last), "pidfd")
	b.PID, b.PIDFD = proc.PID, last
	j.proc = &b
	if ptm, ok := j.fds[ptmHandle]; ok {
		delete(j.fds, ptmHandle)
		proc.Terminal = os.NewFile(uintptr(ptm), "terminal")
	}
	return nil
}

// hand hands the listener of a filter over, if there is one, while the processes are on their way.
func (j *joining) hand(p plan.Plan, first int) error {
	for _, s := range p.Host {
		if s, ok := s.(plan.HandOver); ok {
			return errs.Wrap(s.String(), "", j.handOver(first, j.ours[len(j.ours)-1].PIDFD))
		}
	}
	return nil
}

// compile compiles the child steps, when all that they refer to is open.
func (j *joining) compile(p plan.Plan) (err error) {
	open := j.given()
	maps.Copy(open, j.fds)
	var peer plan.Handle
	for _, s := range p.Host {
		if s, ok := s.(plan.OpenPeer); ok {
			peer = s.As
		}
	}
	j.c, err = compile.Join(p.Child, open, peer)
	return err
}

// kill ends whatever is on its way, until it is over: one may just be making the next.
func (j *joining) kill(over <-chan struct{}) {
	for {
		for _, f := range j.ours {
			if fd := f.PIDFD(); fd >= 0 {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
		}
		select {
		case <-over:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// leave ends and reaps the processes that only led to the last one, and returns the pidfd of
// that; -1 if it was never made.
func (j *joining) leave() int {
	n := len(j.ours) - 1
	for _, f := range j.ours[:n] {
		end(f.PIDFD())
	}
	return j.ours[n].PIDFD()
}

// end kills and reaps a process, if there is one.
func end(pidfd int) {
	if pidfd >= 0 {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		_ = waitID(pidfd, &waitInfo{}) // ECHILD if it is not ours
		_ = unix.Close(pidfd)
	}
}

// whyNot tells whether a process ended before the program was executed, in the words of the
// step.
func (j *joining) whyNot(p plan.Plan) error {
	out := &j.c.Out
	if out.Errno == 0 {
		return nil
	}
	err := unix.Errno(out.Errno)
	switch s := p.Child[j.c.Steps[out.Failed]].(type) {
	case plan.Exec:
		if out.Eacces != 0 {
			err = unix.EACCES
		}
		return ExecError(s.Args[0], err)
	case plan.Fork:
		e := errs.New(errs.KindOf(err), s.String(), "", err)
		switch err {
		case unix.EAGAIN:
			e.Kind, e.Hint = errs.Unavailable, "a limit on processes is met: that of the container (--pids-limit), or ulimit -u"
		case unix.ENOMEM: // what the kernel says of a pid namespace whose PID 1 is gone, too
			e.Hint = "the container has just ended, or no memory is left"
		case unix.EACCES:
			if s.Dir != "" {
				e.Hint = cgroupHint
			}
		case unix.EBUSY:
			e.Hint = "the container has made control groups in its own, and handed its controllers down to them"
		}
		return e
	default:
		return refused(s, err)
	}
}

// cgroupHint is the hint of an ordinary user who comes from a branch of the tree of control groups that
// is not his, as login sessions are: package cgroup has the same for limits.
const cgroupHint = "run as root, or in a delegated scope: systemd-run --user --scope -p Delegate=yes corten ..."

// pidOf is the process that a pidfd refers to, as our own pid namespace numbers it; 0 if it
// has been reaped.
func pidOf(pidfd int) int {
	b, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	_, rest, _ := strings.Cut(string(b), "\nPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pid, _ := strconv.Atoi(line)
	return max(pid, 0)
}

// openPeer opens a terminal of the container. Its /dev/pts may be anything by now: what is
// found there is not opened before it is known to be a devpts's own ptmx.
func (j *joining) openPeer(s plan.OpenPeer, proc *Process) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	found, err := kernel.OpenAt2(int(j.env.Files[s.Root].Fd()), "dev/pts/ptmx", how)
	if err != nil {
		return noTerminals(err)
	}
	defer unix.Close(found)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(found, &fs), unix.Fstat(found, &st)); err != nil {
		return err
	}
	if fs.Type != unix.DEVPTS_SUPER_MAGIC || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(5, 2) {
		return noTerminals(nil)
	}
	ptm, err := unix.Open("/proc/self/fd/"+strconv.Itoa(found), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return noTerminals(err)
	}
	j.put(ptmHandle, ptm)
	if err := unix.IoctlSetPointerInt(ptm, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	if s.Size != nil {
		if err := unix.IoctlSetWinsize(ptm, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Size.Rows, Col: s.Size.Columns}); err != nil {
			return err
		}
	}
	pts, err := openPTS(ptm)
	if err != nil {
		return err
	}
	j.put(s.As, pts)
	return unix.Fchown(pts, int(s.User), -1)
}

func noTerminals(err error) error {
	if err == nil {
		err = errs.Newf(errs.Unsupported, "", "", "/dev/pts of the container is not one")
	}
	return errs.New(errs.KindOf(err), "", "", err).WithHint("leave -t out; the container has no /dev/pts of its own, or all of its terminals are taken")
}
