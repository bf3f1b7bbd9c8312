package shell

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/errs"
)

// Progress shows on stderr what the verb, such as "Pulling", does, unless nobody wants to
// see it.
func (s *Shell) Progress(verb string, quiet bool) *show.Progress {
	if quiet {
		return show.NewProgress(nil, verb)
	}
	return show.NewProgress(s.Stderr, verb)
}

// Interruptible gives work a context that ends when the user asks for an end; a second
// time ends it on the spot. Work with images makes much garbage in little memory, so it
// is collected more often than usual.
func (s *Shell) Interruptible(ctx context.Context, work func(context.Context) error) error {
	debug.SetGCPercent(gcPercent)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	asked := make(chan unix.Signal, 1)
	go func() {
		select {
		case got := <-signals:
			signal.Stop(signals) // from now on a signal does what it does to any program
			asked <- got.(unix.Signal)
			cancel(errs.Newf(errs.Canceled, "", "", got.String()))
		case <-ctx.Done():
		}
	}()
	err := work(ctx)
	select {
	case got := <-asked:
		if err != nil {
			return &Exit{128 + int(got), err}
		}
	default:
	}
	return err
}

// gcPercent is how far the heap may grow over what is in use, in percent.
const gcPercent = 50
