package cgroup

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// freezer is how a group is frozen: v2 has a file for it since Linux 5.2, v1 a controller.
type freezer struct {
	v2              bool
	file, stop, run string
}

func freezerOf(dir string) freezer {
	if isV2(dir) {
		return freezer{true, dir + "/cgroup.freeze", "1", "0"}
	}
	return freezer{false, dir + "/freezer.state", "FROZEN", "THAWED"}
}

// tracked is the directory by which the group is frozen.
func (g Group) tracked(what string) (string, error) {
	if len(g) == 0 {
		return "", errs.Newf(errs.Unsupported, what, "", "the container has no control group").WithHint(DelegateHint)
	}
	return g[0], nil
}

// Freeze stops every process of the group where it stands, and returns when all have stopped.
func (g Group) Freeze(ctx context.Context) error {
	dir, err := g.tracked("freeze")
	if err != nil {
		return err
	}
	f := freezerOf(dir)
	if err := writeFile(f.file, f.stop); err != nil {
		return stopError("freeze", dir, err)
	}
	if f.v2 {
		return stopError("freeze", dir, waitEvent(ctx, dir, "frozen", 1))
	}
	return stopError("freeze", dir, backoff(ctx, func() (bool, error) {
		state, err := readFile(f.file)
		if err != nil || state == "FROZEN\n" {
			return true, err
		}
		// It says FREEZING while a process was caught in the middle of a fork: asked again, the
		// kernel looks for those it missed.
		if err := writeFile(f.file, f.stop); err != nil {
			return true, err
		}
		return false, unix.EBUSY
	}))
}

// Thaw lets the processes go on.
func (g Group) Thaw() error {
	dir, err := g.tracked("thaw")
	if err != nil {
		return err
	}
	f := freezerOf(dir)
	return stopError("thaw", dir, writeFile(f.file, f.run))
}

// Frozen reports whether the group is frozen or about to be.
func (g Group) Frozen() (bool, error) {
	if len(g) == 0 {
		return false, nil
	}
	f := freezerOf(g[0])
	state, err := readFile(f.file)
	if isGone(err) {
		return false, nil
	}
	return err == nil && state != f.run+"\n", stopError("read state of", g[0], err)
}

// Kill kills every process of the group, also of a group that forks as fast as it is killed,
// and returns when none is left. A frozen group dies as well.
func (g Group) Kill(ctx context.Context) error {
	if len(g) == 0 {
		return nil
	}
	err := writeFile(g[0]+"/cgroup.kill", "1") // Linux 5.14
	switch {
	case isGone(err):
		return g.killEach(ctx)
	case err == nil:
		err = waitEvent(ctx, g[0], "populated", 0)
	}
	return stopError("kill", g[0], err)
}

// killEach kills without cgroup.kill: while all are frozen none can fork, and their numbers
// cannot be given to others. A frozen process of v1 dies once it is thawed.
func (g Group) killEach(ctx context.Context) error {
	f := freezerOf(g[0])
	return stopError("kill", g[0], backoff(ctx, func() (bool, error) {
		_ = writeFile(f.file, f.stop) // if it does not freeze it takes more rounds
		pids, err := procs(g[0])
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone already
		}
		_ = writeFile(f.file, f.run)
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

// Destroy kills every process of the group and removes it. To destroy what is not there is no
// error.
func (g Group) Destroy(ctx context.Context) error {
	if len(g) == 0 {
		return nil
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	return g.Remove(ctx)
}
