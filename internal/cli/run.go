package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/attend"
	"github.com/cortenhq/corten/internal/cli/runflags"
)

func newRun(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "run [flags] IMAGE|host [COMMAND [ARGUMENT...]]",
		Long: `Run a command in a new container, and wait for it to end.

The container's root file system is an image, or with the word host this machine's own root,
read-only and without its private places. By default the container has users, processes, host
name, memory segments and control groups of its own, and no network. What stands after IMAGE
belongs to the command.

The exit code is the command's; 125 if Corten could not do what it was asked, 126 if the command
cannot be executed, 127 if it does not exist, 128 and the number of the signal that ended it.`,
		Example: `  corten run --rm host -- id
  corten run --rm -it debian:12 bash
  corten run --rm --memory 256m --cpus 0.5 -v ./data:/data:ro debian:12 wc /data/file
  corten run --plan --read-only debian:12 true`,
		Args: usageArgs(1, -1),
	}
	flags := bindContainer(cmd, runflags.Run)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return attend.Run(cmd.Context(), a.shell, flags, args)
	}
	return cmd
}
