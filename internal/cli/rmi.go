package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
)

func newRmi(a *app) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use: "rmi [flags] IMAGE...",
		Long: `Remove images, by name or by id.

A name is taken away; with its last name the image goes, and the space of what no other image has
is free again. An image that a container uses stays.`,
		Example: `  corten rmi debian:12
  corten rmi --force 3f8a4339aadd
  corten rmi $(corten images -q --filter dangling=true)`,
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeImages(-1),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove an image with all its names, and take away the names of one that is in use")
	cmd.Flags().Bool("no-prune", false, "Accepted for Docker's sake: there are no images in between")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := a.engine()
		if err != nil {
			return err
		}
		return a.sayButLast(eng.RemoveImages(cmd.Context(), args, force, a.printRemoved))
	}
	return cmd
}

func (a *app) printRemoved(r engine.Removed) {
	for _, n := range r.Untagged {
		fmt.Fprintln(a.env.Stdout, "Untagged: "+n)
	}
	for _, d := range r.Deleted {
		fmt.Fprintln(a.env.Stdout, "Deleted: "+string(d))
	}
}
