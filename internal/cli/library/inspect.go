package library

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// Inspect shows all that is known of images.
func Inspect(sh *shell.Shell) *cobra.Command {
	format, platform := "", ""
	cmd := &cobra.Command{
		Use:               "inspect [flags] IMAGE...",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: completeImages(sh, -1),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Config.Env}}")
	cmd.Flags().StringVar(&platform, "platform", "", "Show the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.Inspect(args, format, func(eng *engine.Engine, name string) (any, error) {
			return eng.InspectImage(cmd.Context(), name, platform)
		})
	}
	return cmd
}
