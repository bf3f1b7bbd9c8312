// Package watch wakes who waits for folders to change.
//
// A Watcher has folders; Wait returns when something in one of them has moved since the last
// Wait. What moved it does not say: whoever woke looks at the world. So nothing is missed if
// the look comes after Add and before Wait, and a wake without a cause does no harm.
package watch

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// changes are the events of inotify(7) that wake: files are made, written, renamed, removed.
const changes = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// Watcher waits for folders to change. It is one goroutine's.
type Watcher struct {
	file *os.File // of the poller: a deadline ends a read
	buf  [4096]byte
}

// New returns a watcher of no folder.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		e := errs.New(errs.Other, "watch folders", "", err)
		if err == unix.EMFILE {
			e.Kind = errs.NoSpace
			_ = e.WithHint("raise fs.inotify.max_user_instances with sysctl: other programs use them all")
		}
		return nil, e
	}
	return &Watcher{file: os.NewFile(uintptr(fd), "inotify")}, nil
}

// Add watches a folder too. To add one again changes nothing; one that is not there is left
// out, for the caller to see its coming in a folder above.
func (w *Watcher) Add(dir string) error {
	// Fd would make the descriptor block.
	raw, err := w.file.SyscallConn()
	if err != nil {
		return errs.Wrap("watch", dir, err)
	}
	cerr := raw.Control(func(fd uintptr) {
		_, err = unix.InotifyAddWatch(int(fd), dir, changes|unix.IN_ONLYDIR)
	})
	if err = errors.Join(cerr, err); err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	e := errs.New(errs.KindOf(err), "watch", dir, err)
	if errors.Is(err, unix.ENOSPC) {
		_ = e.WithHint("raise fs.inotify.max_user_watches with sysctl: other programs use them all")
	}
	return e
}

// Wait returns when something has changed since the last Wait, or since Add. It returns ctx's
// cause when that is done.
func (w *Watcher) Wait(ctx context.Context) error {
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		return errs.Wrap("wait for a change", "", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := w.file.Read(w.buf[:]) // more may be queued: then the next Wait returns at once
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errs.Wrap("wait for a change", "", err)
}

// Close ends it.
func (w *Watcher) Close() error { return w.file.Close() }
