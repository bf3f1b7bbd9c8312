package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/attend"
	"github.com/cortenhq/corten/internal/cli/runflags"
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
		return attend.Exec(cmd.Context(), a.shell, flags, args)
	}
	return cmd
}
