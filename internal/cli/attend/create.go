package attend

import (
	"context"
	"fmt"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Create is the verb create.
func Create(ctx context.Context, s *shell.Shell, flags *runflags.Flags, args []string) error {
	a := newAttendant(s)
	req, opts, err := a.request(flags, args)
	if err != nil {
		return shell.RunExit(err)
	}
	req.Spec.Process.StdinOnce = req.Spec.Process.Stdin
	return shell.RunExit(a.makeContainer(ctx, req, opts, (*engine.Engine).Create))
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
func (a *attendant) makeContainer(ctx context.Context, req engine.RunRequest, opts runflags.Options, make maker) error {
	eng, err := a.shell.Engine()
	if err != nil {
		return err
	}
	id, err := a.createContainer(ctx, eng, req, opts, make)
	if err != nil {
		return err
	}
	a.warn(eng, &req)
	fmt.Fprintln(a.env.Stdout, id)
	return nil
}

func (a *attendant) createContainer(ctx context.Context, eng *engine.Engine, req engine.RunRequest, opts runflags.Options, make maker) (spec.ContainerID, error) {
	cid, err := makeCIDFile(opts.CIDFile)
	if err != nil {
		return "", err
	}
	bars := a.shell.Progress("Pulling", opts.Quiet)
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
