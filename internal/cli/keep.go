package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/keep"
	"github.com/cortenhq/corten/internal/logs/gz"
)

// newKeep is what the processes of kept containers execute: what corten does not do itself, as
// it needs a compressor, and what it does for a program that stands alone. It is in no list.
func newKeep(a *app) *cobra.Command {
	cmd := a.family("keep", &cobra.Command{
		Use:  "compress",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return gz.Folder(args[0]) },
	})
	other := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if step := keep.Step(a.shell, args); step != nil {
			return step(cmd.Context())
		}
		return other(cmd, args)
	}
	cmd.Hidden = true
	return cmd
}
