package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func newCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create [flags] IMAGE|host [COMMAND [ARGUMENT...]]",
		Long:    "Make a container and do not start it. Its id is printed; corten start starts it.",
		Example: "  corten create --name web -v data:/data web:1\n  corten start web",
		Args:    usageArgs(1, -1),
	}
	flags := bindContainer(cmd, runflags.Create)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, opts, err := flags.Request(args[0], commandOf(args), runflags.Caller{LookupEnv: a.env.LookupEnv})
		if err != nil {
			return runExit(err)
		}
		req.Spec.Process.StdinOnce = req.Spec.Process.Stdin
		return runExit(a.makeContainer(cmd.Context(), req, opts, (*engine.Engine).Create))
	}
	return cmd
}

// bindContainer adds the flags that describe a container. What stands after the image is the
// command's.
func bindContainer(cmd *cobra.Command, mode runflags.Mode) *runflags.Flags {
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	flags := runflags.Bind(fs, mode)
	fs.Bool("help", false, "Show this help") // its -h is --hostname
	return flags
}

// commandOf is the container's command line. Before it there may be "--" for the host
// platform; an image may have an entry point that wants it.
func commandOf(args []string) []string {
	command := args[1:]
	if args[0] == "host" && len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return command
}

// maker is a way to make a container that nobody waits for.
type maker func(*engine.Engine, context.Context, engine.RunRequest) (spec.ContainerID, error)

// makeContainer makes a container and prints its id.
func (a *app) makeContainer(ctx context.Context, req engine.RunRequest, opts runflags.Options, make maker) error {
	eng, err := a.engine()
	if err != nil {
		return err
	}
	id, err := a.createContainer(ctx, eng, req, opts, make)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.env.Stdout, id)
	return nil
}

func (a *app) createContainer(ctx context.Context, eng *engine.Engine, req engine.RunRequest, opts runflags.Options, make maker) (spec.ContainerID, error) {
	cid, err := makeCIDFile(opts.CIDFile)
	if err != nil {
		return "", err
	}
	bars := a.progress("Pulling", opts.Quiet)
	req.Progress, req.Quiet = bars.Tell, opts.Quiet
	id, err := make(eng, ctx, req)
	for tries := 0; opts.Unnamed && tries < 3 && errs.Is(err, errs.Exists); tries++ {
		req.Spec.Name = values.OtherName()
		id, err = make(eng, ctx, req)
	}
	bars.Close()
	if err != nil {
		cid.remove()
		return "", err
	}
	return id, cid.write(id)
}
