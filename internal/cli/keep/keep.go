// Package keep is what the processes of kept containers execute (LIFECYCLE.md). It is nothing
// for people.
package keep

import (
	"context"
	"io"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

// Step is what the arguments of keep ask for; nil if they ask for nothing that is known here.
func Step(s *shell.Shell, args []string) func(context.Context) error {
	if len(args) == 1 && args[0] == "hold" {
		return func(context.Context) error {
			_, err := io.Copy(io.Discard, s.Stdin)
			return err
		}
	}
	if len(args) == 1 && args[0] == "nest" { // for the doctor
		return func(context.Context) error {
			eng, err := s.Engine()
			if err != nil {
				return err
			}
			return eng.KeepNest()
		}
	}
	if len(args) < 2 {
		return nil
	}
	id := spec.ContainerID(args[1])
	var step func(context.Context, *engine.Engine) error
	switch verb := args[0]; {
	case verb == "start" && len(args) == 2:
		step = func(ctx context.Context, eng *engine.Engine) error { return eng.KeepStart(ctx, id, engine.ByRestart) }
	case verb == "begin" && len(args) == 3:
		step = func(ctx context.Context, eng *engine.Engine) error {
			return eng.KeepStart(ctx, id, engine.Origin(args[2]))
		}
	case verb == "end" && len(args) == 2:
		step = func(_ context.Context, eng *engine.Engine) error {
			status, err := eng.KeepEnd(id)
			if err == nil && status != 0 {
				err = &shell.Exit{Code: status}
			}
			return err
		}
	case verb == "probe" && len(args) == 2:
		step = func(ctx context.Context, eng *engine.Engine) error { return eng.KeepProbe(ctx, id) }
	default:
		return nil
	}
	return func(ctx context.Context) error {
		eng, err := s.Engine()
		if err != nil {
			return err
		}
		return step(ctx, eng)
	}
}
