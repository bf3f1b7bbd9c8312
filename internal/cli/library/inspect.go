package library

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
)

// Inspect shows all that is known of images.
func Inspect(sh *shell.Shell) *cobra.Command {
	format, platform := "", ""
	cmd := &cobra.Command{
		Use:               "inspect [flags] IMAGE...",
		Args:              shell.WantArgs(1, -1),
		ValidArgsFunction: completeImages(sh, -1),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Config.Env}}")
	cmd.Flags().StringVar(&platform, "platform", "", "Show the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		var (
			found []any
			all   []error
		)
		for _, name := range args {
			d, err := eng.InspectImage(cmd.Context(), name, platform)
			if err != nil {
				all = append(all, err)
				continue
			}
			found = append(found, d)
		}
		return sh.SayButLast(errors.Join(append(all, sh.PrintFound(format, found))...))
	}
	return cmd
}
