package library

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// Remove removes images.
func Remove(sh *shell.Shell) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use: "rmi [flags] IMAGE...",
		Long: `Remove images, by name or by id.

A name is taken away; with its last name the image goes, and the space of what no other image has
is free again. An image that a container uses stays.`,
		Example: `  corten rmi debian:12
  corten rmi --force 3f8a4339aadd
  corten rmi $(corten images -q --filter dangling=true)`,
		Args:              declare.Args(1, -1),
		ValidArgsFunction: completeImages(sh, -1),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove an image with all its names, and take away the names of one that is in use")
	cmd.Flags().Bool("no-prune", false, "Accepted for Docker's sake: there are no images in between")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		return sh.SayButLast(eng.RemoveImages(cmd.Context(), args, force, func(r engine.Removed) { printRemoved(sh, r) }))
	}
	return cmd
}

func printRemoved(sh *shell.Shell, r engine.Removed) {
	for _, n := range r.Untagged {
		fmt.Fprintln(sh.Stdout, "Untagged: "+n)
	}
	for _, d := range r.Deleted {
		fmt.Fprintln(sh.Stdout, "Deleted: "+string(d))
	}
}
