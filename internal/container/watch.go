package container

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Await looks at a container each time something about it changes, until enough says so. A
// container that is gone has no state; enough is then asked with nil, and Await returns.
// inotify only wakes us: what counts is what is there.
func Await(ctx context.Context, dirs Dirs, id spec.ContainerID, enough func(*State) bool) error {
	look := func() bool {
		st, err := ReadState(dirs, id)
		if err != nil {
			if _, serr := os.Stat(Dir(dirs, id)); Gone(serr) {
				enough(nil)
				return true
			}
			st = State{Status: Created} // about to be written
		}
		return enough(&st)
	}
	if look() {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return errs.Wrap("watch container", id.Short(), err)
	}
	f := os.NewFile(uintptr(fd), "inotify") // of the poller: a deadline ends a read
	defer f.Close()
	_, err = unix.InotifyAddWatch(fd, Dir(dirs, id), unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	if err != nil && !Gone(err) {
		return errs.Wrap("watch container", id.Short(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte
	for !look() {
		if _, err := f.Read(buf[:]); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return errs.Wrap("watch container", id.Short(), err)
		}
	}
	return nil
}

// AwaitUnlocked waits until nobody looks after a container any more.
func AwaitUnlocked(ctx context.Context, dirs Dirs, id spec.ContainerID) error {
	path := filepath.Join(dirs.Run, "active", string(id))
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if _, err := os.Stat(path); Gone(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
