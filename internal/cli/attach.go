package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/attend"
	"github.com/cortenhq/corten/internal/cli/life"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// attachFlags are those of attach and start.
type attachFlags struct {
	attend.Attachment // its keys as they are typed, until they are read
}

func (f *attachFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Keys, "detach-keys", "", "Leave the container running when `KEYS` are typed (default ctrl-p,ctrl-q)")
	cmd.Flags().BoolVar(&f.Proxy, "sig-proxy", true, "Pass the signals that corten receives on to the container")
}

// ready finds the bytes that the keys to leave stand for, and returns an engine that has looked
// after containers whose owner was killed.
func (f *attachFlags) ready(a *app) (*engine.Engine, error) {
	eng, err := a.engine()
	if err != nil {
		return nil, err
	}
	if f.Keys, err = values.Keys(f.Keys); err != nil {
		return nil, shell.Misused(err)
	}
	return eng, eng.Tidy()
}

func newAttach(a *app) *cobra.Command {
	f := attachFlags{}
	noStdin := false
	cmd := &cobra.Command{
		Use: "attach [flags] CONTAINER",
		Long: `Show the output of a running container, send it input, pass signals on, and end as it ends.

The container does not notice: who reads slowly or goes away keeps it from nothing.`,
		Args:              wantArgs(1, 1),
		ValidArgsFunction: a.completeContainers(1, "running"),
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "Send no input")
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := f.ready(a)
		if err != nil {
			return err
		}
		f.Stdin = !noStdin && eng.HasStdin(args[0])
		return shell.RunExit(attend.Attach(cmd.Context(), a.shell, eng, args[0], f.Attachment, engine.AttachRequest{Stdin: f.Stdin}))
	}
	return cmd
}

func newStart(a *app) *cobra.Command {
	f := attachFlags{}
	attach := false
	cmd := &cobra.Command{
		Use:               "start [flags] CONTAINER...",
		Long:              "Start containers that are not running.",
		Example:           "  corten start web db\n  corten start -ai shell",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "created", "exited"),
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "Show its output, pass signals on, and end as it ends")
	cmd.Flags().BoolVarP(&f.Stdin, "interactive", "i", false, "Attach, and send it input")
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !attach && !f.Stdin {
			return life.Each(a.shell, args, func(eng *engine.Engine, ref string) error { return eng.StartContainer(cmd.Context(), ref) })
		}
		if len(args) > 1 {
			return shell.Misused(errs.Newf(errs.Invalid, "start", "", "only one container can be attached").WithHint("start them without --attach and --interactive"))
		}
		return shell.RunExit(a.startAttached(cmd.Context(), args[0], f))
	}
	return cmd
}

// startAttached starts a container and attaches to it.
func (a *app) startAttached(ctx context.Context, ref string, f attachFlags) error {
	eng, err := f.ready(a)
	if err != nil {
		return err
	}
	return attend.Attach(ctx, a.shell, eng, ref, f.Attachment, engine.AttachRequest{Stdin: f.Stdin, Start: engine.ByStart})
}
