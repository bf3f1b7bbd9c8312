package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/read"
)

// LogEntry is a part of a container's output, or the news that some of it is missing.
type LogEntry = read.Entry

// LogStderr is the stream of a LogEntry that is not stdout.
const LogStderr = logs.Stderr

// LogsRequest says which part of a container's log is wanted.
type LogsRequest struct {
	Follow       bool         // go on until the container has ended
	Since, Until time.Time    // zero: no limit
	Tail         int          // the last lines; negative: all
	Idle         func() error // called when all that there is for now has been given; may be nil
}

// Logs calls each with what the container has written.
func (e *Engine) Logs(ctx context.Context, ref string, req LogsRequest, each func(LogEntry) error) error {
	_ = e.sweep() // a keeper that was killed has a successor then; what else there is to do is not about logs
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if req.Idle == nil {
		req.Idle = func() error { return nil }
	}
	folder, err := e.holdLog(s)
	if container.Gone(err) { // removed meanwhile
		if _, ferr := container.Find(e.dirs(), string(s.Spec.ID)); ferr != nil {
			return ferr
		}
	}
	if folder == nil || err != nil {
		return err
	}
	defer folder.Close()
	dir := "/proc/self/fd/" + strconv.Itoa(int(folder.Fd())) // wherever it is moved to
	part := read.Request{Since: req.Since, Until: req.Until, Tail: req.Tail, Durable: true}
	if req.Follow {
		live := read.Live{Idle: req.Idle, Over: func() bool { return e.ended(s) }, Wake: []string{container.Dir(e.dirs(), s.Spec.ID)}}
		return kept.Tended(e.dirs(), func() error { return read.Follow(ctx, dir, part, live, each) })
	}
	if err := read.Read(ctx, dir, part, each); err != nil {
		return err
	}
	return req.Idle()
}

// holdLog opens the folder of a container's log, and keeps it from going with the container
// until it is closed. It returns nil if there is nothing to read and will be nothing.
func (e *Engine) holdLog(s container.Snapshot) (*os.File, error) {
	const op = "read log of container"
	dir := container.LogDir(e.dirs(), s.Spec.ID)
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		switch {
		case s.Spec.Life.Log.Off:
			return nil, errs.Newf(errs.NotFound, op, s.Spec.Name, "it keeps none (--log-driver none)").
				WithHint("make the container without that flag")
		case !s.State.Kept && !s.State.Started.IsZero():
			return nil, errs.Newf(errs.NotFound, op, s.Spec.Name, "its output went to whoever ran it in the foreground").
				WithHint("run it with --detach, or without --rm, to have its output kept")
		case !s.State.Alive():
			return nil, nil
		}
		if err = os.Mkdir(dir, 0o700); err == nil || errors.Is(err, fs.ErrExist) { // as whoever is about to write it does
			f, err = os.Open(dir)
		}
	}
	if err != nil {
		return nil, errs.Wrap(op, s.Spec.Name, err)
	}
	if err := disk.Flock(f, disk.Shared); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ended reports whether nothing will be added to the container's log unless somebody starts
// it again.
func (e *Engine) ended(s container.Snapshot) bool {
	st, err := container.ReadState(e.dirs(), s.Spec.ID)
	if err != nil {
		_, err := os.Stat(container.Dir(e.dirs(), s.Spec.ID))
		return container.Gone(err) || !s.State.Alive()
	}
	return !st.Alive()
}
