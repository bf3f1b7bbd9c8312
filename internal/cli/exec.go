package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/engine"
)

func newExec(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "exec [flags] CONTAINER COMMAND [ARGUMENT...]",
		Long: `Run a further command in a container that runs, and wait for it to end.

The command has the container's files, network, limits, users and system call filter, and its
environment with what the flags add. It ends at the latest when the container does.

The exit code is the command's; 125 if Corten could not do what it was asked, 126 if the command
cannot be executed, 127 if it does not exist, 128 and the number of the signal that ended it.`,
		Example: `  corten exec web cat /etc/hosts
  corten exec -it -u root web sh
  corten exec -d -e MODE=full web /usr/bin/reindex`,
		Args:              usageArgs(2, -1),
		ValidArgsFunction: a.completeContainers(1, "running"),
	}
	cmd.Flags().SetInterspersed(false)
	flags := runflags.BindExec(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, keys, err := flags.Request(args[1:], runflags.Caller{LookupEnv: a.env.LookupEnv})
		if err != nil {
			return runExit(err)
		}
		return runExit(a.execute(cmd.Context(), args[0], req, keys))
	}
	return cmd
}

// execute starts a command in a container, attends to it and ends as it ended.
func (a *app) execute(ctx context.Context, ref string, req engine.ExecRequest, keys string) error {
	if err := a.inputFits(req.Terminal && req.Stdin); err != nil {
		return err
	}
	if req.Terminal {
		req.Size = a.terminalSize()
	}
	eng, err := a.engine()
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
			return signaled(sig)
		}
		return err
	}
	terminal, err := own(x.Terminal)
	if err != nil {
		return err
	}
	end, err := a.attendUntil(w, guest{terminal, func() { x.Terminal.Close() }, req.Stdin, x.Signal, x.Wait, nil}, keys)
	if errors.Is(err, errLeft) {
		a.say("left the command running")
		return x.Leave()
	}
	if err != nil {
		return err
	}
	if end.Message != "" {
		a.say(end.Message)
	}
	if end.Code == 0 {
		return nil
	}
	return &exit{end.Code, nil}
}
