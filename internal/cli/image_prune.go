package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

func newImagePrune(a *app) *cobra.Command {
	all, force, filters := false, false, []string(nil)
	cmd := &cobra.Command{
		Use: "prune [flags]",
		Long: `Remove images that have no name, or with --all every image that no container uses, and free the
space of whatever nothing needs any more.`,
		Args: wantArgs(0, 0),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove all images that no container uses")
	fs.BoolVarP(&force, "force", "f", false, "Do not ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only what `NAME=VALUE` lets through, as in corten images")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := engine.ParseImageFilter(filters)
		if err != nil {
			return err
		}
		what := "This will remove all images that have no name."
		if all {
			what = "This will remove all images that no container uses."
		}
		if !force && !a.confirm(what) {
			return nil
		}
		eng, err := a.engine()
		if err != nil {
			return err
		}
		r, freed, err := eng.PruneImages(cmd.Context(), all, f)
		if len(r.Untagged)+len(r.Deleted) > 0 {
			fmt.Fprintln(a.env.Stdout, "Deleted Images:")
			a.printRemoved(r)
			fmt.Fprintln(a.env.Stdout)
		}
		fmt.Fprintln(a.env.Stdout, "Total reclaimed space: "+show.Size(freed.Bytes))
		return a.sayButLast(err)
	}
	return cmd
}
