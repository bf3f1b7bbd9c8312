package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newImageInspect(a *app) *cobra.Command {
	format, platform := "", ""
	cmd := &cobra.Command{
		Use:               "inspect [flags] IMAGE...",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeImages(-1),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Config.Env}}")
	cmd.Flags().StringVar(&platform, "platform", "", "Show the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := a.engine()
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
		if format != "" {
			err = a.format(format, found...)
		} else {
			err = a.printJSON(found)
		}
		return a.sayButLast(errors.Join(append(all, err)...))
	}
	return cmd
}
