package library

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

// Prune removes images that nobody needs.
func Prune(sh *shell.Shell) *cobra.Command {
	all, force, filters := false, false, []string(nil)
	cmd := &cobra.Command{
		Use: "prune [flags]",
		Long: `Remove images that have no name, or with --all every image that no container uses, and free the
space of whatever nothing needs any more.`,
		Args: declare.Args(0, 0),
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
		if !force && !sh.Confirm(what) {
			return nil
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		r, freed, err := eng.PruneImages(cmd.Context(), all, f)
		if len(r.Untagged)+len(r.Deleted) > 0 {
			fmt.Fprintln(sh.Stdout, "Deleted Images:")
			printRemoved(sh, r)
			fmt.Fprintln(sh.Stdout)
		}
		fmt.Fprintln(sh.Stdout, "Total reclaimed space: "+show.Size(freed.Bytes))
		return sh.SayButLast(err)
	}
	return cmd
}
