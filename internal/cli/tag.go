package cli

import "github.com/spf13/cobra"

func newTag(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "tag IMAGE NAME[:TAG]",
		Long:              "Give an image one more name. An image that had the name stays without it.",
		Example:           `  corten tag debian:12 registry.example.org/base:2025-08`,
		Args:              wantArgs(2, 2),
		ValidArgsFunction: a.completeImages(1),
		RunE: func(_ *cobra.Command, args []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return eng.TagImage(args[0], args[1])
		},
	}
}
