package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/attend"
	"github.com/cortenhq/corten/internal/cli/runflags"
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
		return attend.Create(cmd.Context(), a.shell, flags, args)
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
