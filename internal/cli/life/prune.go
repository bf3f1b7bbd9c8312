package life

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
)

// Prune removes containers that do not run.
func Prune(sh *shell.Shell) *cobra.Command {
	force, filters := false, []string(nil)
	cmd := &cobra.Command{
		Use:               "prune [flags]",
		Long:              "Remove all containers that do not run, with what they have written and their logs.",
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "Remove only what `NAME=VALUE` lets through: until (a time, or an age such as 24h), and what corten ps takes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, until, err := pruneFilter(filters)
		if err != nil {
			return err
		}
		if !force && !sh.Confirm("This will remove all containers that do not run.") {
			return nil
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, err := eng.Containers(cmd.Context(), f)
		r := sh.Reclaiming("Deleted Containers:", err)
		for _, c := range list {
			if !c.Spec.Created.Before(until) {
				continue
			}
			size, _, _ := eng.ContainerSize(cmd.Context(), c)
			r.Removed(string(c.Spec.ID), size, eng.RemoveContainer(cmd.Context(), string(c.Spec.ID), engine.RemoveRequest{}))
		}
		return r.End()
	}
	return cmd
}

// pruneFilter reads --filter; until is now if nothing is said of it.
func pruneFilter(list []string) (f engine.ContainerFilter, until time.Time, err error) {
	until = time.Now()
	var rest []string
	for _, text := range list {
		value, ok := strings.CutPrefix(text, "until=")
		if !ok {
			rest = append(rest, text)
			continue
		}
		if until, err = values.When("filter", value, time.Now()); err != nil {
			return f, until, err
		}
	}
	f, err = engine.ParseContainerFilter(rest)
	f.States = append(f.States, "created", "exited")
	return f, until, err
}
