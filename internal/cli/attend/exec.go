package attend

import (
	"context"
	"errors"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// Exec is the verb exec.
func Exec(ctx context.Context, s *shell.Shell, flags *runflags.ExecFlags, args []string) error {
	req, keys, err := flags.Request(args[1:], runflags.Caller{LookupEnv: s.LookupEnv})
	if err != nil {
		return shell.RunExit(err)
	}
	return shell.RunExit(newAttendant(s).execute(ctx, args[0], req, keys))
}

// execute starts a command in a container, attends to it and ends as it ended.
func (a *attendant) execute(ctx context.Context, ref string, req engine.ExecRequest, keys string) error {
	if err := a.inputFits(req.Terminal && req.Stdin); err != nil {
		return err
	}
	if req.Terminal {
		req.Size = a.terminalSize()
	}
	eng, err := a.shell.Engine()
	if err != nil {
		return err
	}
	engine.HideArguments() // while we are on the way into the container, those in it could read them
	if req.Detached {
		x, err := eng.Exec(ctx, ref, req)
		if err != nil {
			return err
		}
		return x.Leave()
	}
	w := watchSignals(true, req.Terminal)
	x, err := eng.Exec(w.until(ctx), ref, req)
	if err != nil {
		if sig := w.endedBy(); sig != 0 {
			return shell.Signaled(sig)
		}
		return err
	}
	terminal, err := own(x.Terminal)
	if err != nil {
		return err
	}
	end, err := a.attendUntil(w, guest{terminal, func() { x.Terminal.Close() }, req.Stdin, x.Signal, x.Wait, nil}, keys)
	if errors.Is(err, errLeft) {
		a.shell.Say("left the command running")
		return x.Leave()
	}
	if err != nil {
		return err
	}
	return a.endAs(end)
}
