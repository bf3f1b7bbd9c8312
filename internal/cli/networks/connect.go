package networks

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/netflags"
	"github.com/cortenhq/corten/internal/cli/shell"
)

func absentOfConnect() []absent {
	return []absent{
		{"link", false, "give the other container a name here: --alias"},
		{"link-local-ip", false, "leave it out, or choose an address with --ip or --ip6"},
		{"gw-priority", false, "the first network that a container was put on leads to the world"},
	}
}

// Connect puts a container on one more network.
func Connect(sh *shell.Shell) *cobra.Command {
	var f netflags.Connect
	cmd := &cobra.Command{
		Use:   "connect [flags] NETWORK CONTAINER",
		Short: "Put a container on one more network",
		Long: `Put a container on one more network, at once if it runs, and whenever it is started again.

It gets an interface of its own there. A container that was made with the host's or another container's network,
or with none, has to be made anew. Names of containers are known to one that had somebody to ask for them when it was
started: each with -d, and each that was on another network than bridge then.`,
		Example:           "  corten network connect lab web\n  corten network connect --alias db --ip 10.9.0.5 lab postgres",
		Args:              declare.Args(2, 2),
		ValidArgsFunction: completeBoth(sh),
	}
	f.Bind(cmd.Flags())
	declareAbsent(cmd.Flags(), absentOfConnect())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := refuseAbsent(cmd.Flags(), absentOfConnect()); err != nil {
			return err
		}
		a, err := f.Attachment(args[0])
		if err != nil {
			return shell.Misused(err)
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		return eng.ConnectNetwork(cmd.Context(), a, args[1])
	}
	return cmd
}

// Disconnect takes a container off a network.
func Disconnect(sh *shell.Shell) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:               "disconnect [flags] NETWORK CONTAINER",
		Short:             "Take a container off a network",
		Long:              "Take a container off a network, at once if it runs, and for good.",
		Args:              declare.Args(2, 2),
		ValidArgsFunction: completeBoth(sh),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Take it off also if its interface cannot be taken away now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		return eng.DisconnectNetwork(cmd.Context(), args[0], args[1], force)
	}
	return cmd
}

// completeBoth completes a network and then a container.
func completeBoth(sh *shell.Shell) cobra.CompletionFunc {
	networks, containers := Complete(sh, 1), declare.Containers(sh, 2)
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return networks(cmd, args, begun)
		}
		return containers(cmd, args, begun)
	}
}
