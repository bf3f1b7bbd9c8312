package look

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/networks"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/volumes"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// inspector finds what a name stands for.
type inspector struct {
	eng  *engine.Engine
	kind string // container, image, volume or network; empty: any of them, in that order
	size bool
}

// Inspect shows all that is known of containers, images, volumes and networks.
func Inspect(sh *shell.Shell) *cobra.Command {
	i, format := inspector{}, ""
	cmd := &cobra.Command{
		Use: "inspect [flags] NAME...",
		Long: `Show all that is known of containers, images, volumes and networks.

A name is that of a container, else of an image, else of a volume, else of a network; --type says which is meant.`,
		Example: `  corten inspect web
  corten inspect -f '{{.State.Status}} {{.State.ExitCode}}' web`,
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	fs := cmd.Flags()
	fs.StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.State.Pid}}")
	fs.BoolVarP(&i.size, "size", "s", false, "Show also what containers have written")
	fs.StringVar(&i.kind, "type", "", "Look among `KIND` only: container, image, volume or network")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"container", "image", "volume", "network"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch i.kind {
		case "", "container", "image", "volume", "network":
		default:
			return shell.Misused(errs.Newf(errs.Invalid, "--type", i.kind, "no such kind").WithHint("write container, image, volume or network"))
		}
		return i.inspect(cmd.Context(), sh, args, format)
	}
	return cmd
}

// InspectContainers is Inspect for containers only.
func InspectContainers(sh *shell.Shell) *cobra.Command {
	i, format := inspector{kind: "container"}, ""
	cmd := &cobra.Command{Use: "inspect [flags] CONTAINER...", Args: declare.Args(1, -1), ValidArgsFunction: declare.Containers(sh, -1)}
	fs := cmd.Flags()
	fs.StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.State.Pid}}")
	fs.BoolVarP(&i.size, "size", "s", false, "Show also what they have written")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return i.inspect(cmd.Context(), sh, args, format) }
	return cmd
}

func (i inspector) inspect(ctx context.Context, sh *shell.Shell, names []string, format string) error {
	return sh.Inspect(names, format, func(eng *engine.Engine, name string) (any, error) {
		i.eng = eng
		return i.find(ctx, name)
	})
}

// find describes what a name stands for.
func (i inspector) find(ctx context.Context, name string) (any, error) {
	for _, k := range []struct {
		kind string
		find func(context.Context, string) (any, error)
	}{{"container", i.container}, {"image", i.image}, {"volume", i.volume}, {"network", i.network}} {
		if i.kind != "" && i.kind != k.kind {
			continue
		}
		d, err := k.find(ctx, name)
		if i.kind != "" || !errs.Is(err, errs.NotFound) && !(errs.Is(err, errs.Invalid) && k.kind == "image") {
			return d, err // a name that is none of an image may still be one of a volume
		}
	}
	return nil, errs.Newf(errs.NotFound, "inspect", name, "no such container, image, volume or network").
		WithHint("corten ps -a, corten images, corten volume ls and corten network ls list them")
}

func (i inspector) container(ctx context.Context, name string) (any, error) {
	c, err := i.eng.Container(name)
	if err != nil {
		return nil, err
	}
	w, err := i.eng.Wiring(c.Spec.ID)
	if err != nil {
		return nil, err
	}
	d := newDocument(c, i.eng.ContainerFacts(c), surroundings{wiring: w, volume: func(name string) string {
		v, _ := i.eng.Volume(name) // removed meanwhile: no place
		return v.Mountpoint
	}, network: func(name string) string {
		n, _ := i.eng.Network(name) // likewise, or not made yet
		return n.ID
	}})
	if i.size {
		own, whole, err := i.eng.ContainerSize(ctx, c)
		if err != nil {
			return nil, err
		}
		d.SizeRw, d.SizeRootFs = &own, &whole
	}
	return d, nil
}

func (i inspector) image(ctx context.Context, name string) (any, error) {
	return i.eng.InspectImage(ctx, name, "")
}

func (i inspector) volume(_ context.Context, name string) (any, error) {
	v, err := i.eng.Volume(name)
	return volumes.Document(v), err
}

func (i inspector) network(_ context.Context, name string) (any, error) {
	return networks.Find(i.eng, name)
}
