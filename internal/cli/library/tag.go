package library

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
)

// Tag gives an image one more name.
func Tag(sh *shell.Shell) *cobra.Command {
	return &cobra.Command{
		Use:               "tag IMAGE NAME[:TAG]",
		Long:              "Give an image one more name. An image that had the name stays without it.",
		Example:           `  corten tag debian:12 registry.example.org/base:2025-08`,
		Args:              declare.Args(2, 2),
		ValidArgsFunction: completeImages(sh, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			return eng.TagImage(args[0], args[1])
		},
	}
}
