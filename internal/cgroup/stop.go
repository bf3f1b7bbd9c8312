package cgroup

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// freezer is how the group that tracks the container is frozen: v2 has a file for it since
// Linux 5.2, v1 a controller.
type freezer struct {
	dir       string
	v2        bool
	file      string
	stop, run string
}

func (g *Group) freezer() freezer {
	dir := g.dirs[0].Path
	if g.dirs[0].isV2() {
		return freezer{dir, true, dir + "/cgroup.freeze", "1", "0"}
	}
	return freezer{dir, false, dir + "/freezer.state", "FROZEN", "THAWED"}
}

func (g *Group) untracked(what string) error {
	if len(g.dirs) > 0 {
		return nil
	}
	return errs.Newf(errs.Unsupported, what, "", "the container has no control group").
		WithHint("start it as root, or in a delegated scope: systemd-run --user --scope -p Delegate=yes corten ...")
}

// Freeze stops every process of the group where it stands, and returns when all have stopped.
func (g *Group) Freeze(ctx context.Context) error {
	if err := g.untracked("freeze"); err != nil {
		return err
	}
	f := g.freezer()
	if err := writeFile(f.file, f.stop); err != nil {
		return stopError("freeze", f.dir, err)
	}
	if f.v2 {
		return stopError("freeze", f.dir, waitEvent(ctx, f.dir, "frozen", 1))
	}
	return stopError("freeze", f.dir, backoff(ctx, func() (bool, error) {
		state, err := readFile(f.file)
		if err != nil || state == "FROZEN\n" {
			return true, err
		}
		// It says FREEZING while a process was caught in the middle of a fork: asked again, the kernel
		// looks for those it missed.
		return false, orBusy(writeFile(f.file, f.stop))
	}))
}

// Thaw lets the processes go on.
func (g *Group) Thaw() error {
	if err := g.untracked("thaw"); err != nil {
		return err
	}
	f := g.freezer()
	return stopError("thaw", f.dir, writeFile(f.file, f.run))
}

// Frozen reports whether the group is frozen or about to be.
func (g *Group) Frozen() (bool, error) {
	if len(g.dirs) == 0 {
		return false, nil
	}
	f := g.freezer()
	state, err := readFile(f.file)
	if isGone(err) {
		return false, nil
	}
	return err == nil && state != f.run+"\n", stopError("read state of", f.dir, err)
}

// Kill kills every process of the group, also of a group that forks as fast as it is killed,
// and returns when none is left. A frozen group dies as well.
func (g *Group) Kill(ctx context.Context) error {
	if len(g.dirs) == 0 {
		return nil
	}
	f := g.freezer()
	if !f.v2 {
		return g.killEach(ctx)
	}
	err := writeFile(f.dir+"/cgroup.kill", "1")
	switch {
	case err == nil:
		return stopError("kill", f.dir, waitEvent(ctx, f.dir, "populated", 0))
	case err != unix.ENOENT:
		return stopError("kill", f.dir, err)
	}
	if unix.Access(f.dir, unix.F_OK) == unix.ENOENT {
		return nil // the group is gone, and its processes with it
	}
	return g.killEach(ctx)
}

// killEach kills without cgroup.kill (v1, and v2 before Linux 5.14): while all are frozen none
// can fork, and their numbers cannot be given to others. A frozen process of v1 dies once it is thawed.
func (g *Group) killEach(ctx context.Context) error {
	f := g.freezer()
	return stopError("kill", f.dir, backoff(ctx, func() (bool, error) {
		if err := writeFile(f.file, f.stop); isGone(err) {
			return true, nil
		}
		pids, err := procs(f.dir)
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone already
		}
		if e := writeFile(f.file, f.run); err == nil && !isGone(e) {
			err = e
		}
		if err != nil || len(pids) == 0 {
			return true, err
		}
		return false, unix.EBUSY
	}))
}

// waitEvent waits until the number called name in the v2 group's cgroup.events is want.
// The kernel announces each change to those who poll.
func waitEvent(ctx context.Context, dir, name string, want int64) error {
	fd, err := open(dir+"/cgroup.events", unix.O_RDONLY)
	if isGone(err) && name == "populated" {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(fd, buf, 0)
		switch {
		case err == unix.ENODEV && name == "populated":
			return nil // removed by someone else
		case err != nil && err != unix.EINTR:
			return err
		case err == nil && field(string(buf[:n]), name) == want:
			return nil
		case ctx.Err() != nil:
			return unix.EBUSY
		}
		// The timeout is only for the context to be heard.
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, 50)
	}
}

func orBusy(err error) error {
	if err == nil {
		return unix.EBUSY
	}
	return err
}

func stopError(what, dir string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EBUSY:
		pids, _ := procs(dir)
		return errs.Newf(errs.Busy, what+" control group", dir, strconv.Itoa(len(pids))+" processes did not answer in time").
			WithHint("one that waits for a device or a network file system does so only when that answers")
	case unix.ENOENT:
		if what == "freeze" {
			return errs.New(errs.Unsupported, what+" control group", dir, err).WithHint("the container is gone, or the kernel is older than Linux 5.2")
		}
	}
	return errs.New(errs.KindOf(err), what+" control group", dir, err)
}
