package engine

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/gz"
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
	dir := filepath.Join(container.Dir(e.dirs(), s.Spec.ID), "log")
	if err := hasLog(s, dir); err != nil {
		return err
	}
	part := read.Request{Since: req.Since, Until: req.Until, Tail: req.Tail}
	if req.Follow {
		live := read.Live{Idle: req.Idle, Over: func() bool { return e.ended(s) }, Wake: []string{container.Dir(e.dirs(), s.Spec.ID)}}
		return read.Follow(ctx, dir, part, live, each)
	}
	err = read.Read(ctx, dir, part, each)
	if err == nil && req.Idle != nil {
		err = req.Idle()
	}
	return err
}

// hasLog refuses if there is no log and will be none.
func hasLog(s container.Snapshot, dir string) error {
	const op = "read log of container"
	if _, err := os.Stat(dir); err == nil {
		return nil // of an earlier start, perhaps
	}
	switch {
	case s.Spec.Life.Log.Off:
		return errs.Newf(errs.NotFound, op, s.Spec.Name, "it keeps none (--log-driver none)").
			WithHint("make the container without that flag")
	case !s.State.Kept && !s.State.Started.IsZero():
		return errs.Newf(errs.NotFound, op, s.Spec.Name, "its output went to whoever ran it in the foreground").
			WithHint("run it with --detach, or without --rm, to have its output kept")
	}
	return nil // it may have written nothing yet
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

// CompressLogs compresses the files of a log but the one that is written.
func (e *Engine) CompressLogs(folder string) error { return gz.Folder(folder) }
