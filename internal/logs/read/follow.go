package read

import (
	"context"

	"github.com/cortenhq/corten/internal/disk/watch"
)

// Live is what Follow has to know of whoever writes a log.
type Live struct {
	Over func() bool  // nothing will be written any more
	Wake []string     // folders in which something changes when Over does
	Idle func() error // called when all that there is has been read; may be nil
}

// Follow calls each with the entries that there are and with those that are written, until
// the writer is over and all is read, or the request's end has come, or ctx is done, whose
// cause it then returns.
func Follow(ctx context.Context, dir string, req Request, live Live, each func(Entry) error) error {
	w, err := watch.New()
	if err != nil {
		return err
	}
	defer w.Close()
	for _, d := range live.Wake {
		if err := w.Add(d); err != nil {
			return err
		}
	}
	wait := ctx
	if !req.Until.IsZero() {
		var cancel context.CancelFunc
		wait, cancel = context.WithDeadline(ctx, req.Until)
		defer cancel()
	}
	var r *Reader
	for {
		if err := w.Add(dir); err != nil { // it may have come since the last look
			return err
		}
		over := wait.Err() != nil || live.Over() // asked before the last look
		if r == nil {
			if r, err = req.reader(dir); err != nil {
				return err
			}
			defer r.Close()
		}
		if err := req.read(ctx, r, endless(), each); err != nil {
			return err
		}
		if live.Idle != nil {
			if err := live.Idle(); err != nil {
				return err
			}
		}
		if over {
			return nil
		}
		if err := w.Wait(wait); err != nil && wait.Err() == nil {
			return err
		}
	}
}
