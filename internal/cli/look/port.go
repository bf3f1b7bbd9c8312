package look

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/errs"
)

// Port lists the ports of the host that lead to a container: none, as long as containers have no
// network of their own.
func Port(sh *shell.Shell) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PORT[/PROTOCOL]]",
		Long: `List the ports of the host that lead to a container.

There are none yet: a container has no network, or the host's with --network host, where its
ports are the host's own.`,
		Args:              declare.Args(1, 2),
		ValidArgsFunction: declare.Containers(sh, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			c, err := eng.Container(args[0])
			if err != nil || len(args) == 1 {
				return err
			}
			return errs.Newf(errs.NotFound, "find port", args[1], "no port of the host leads to container "+c.Spec.Name).
				WithHint("ports cannot be published yet; with --network host a container's ports are the host's")
		},
	}
}
