package cli

import "github.com/spf13/cobra"

func newVersion(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:  "version",
		Args: wantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return a.shell.SayVersion(format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Version}}")
	return cmd
}
