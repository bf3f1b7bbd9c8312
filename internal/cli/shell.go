package cli

import (
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// What the verbs of this package use most of the shell, by shorter names.

func (a *app) engine() (*engine.Engine, error)       { return a.shell.Engine() }
func (a *app) format(form string, list ...any) error { return a.shell.Format(form, list...) }

func newTable(w io.Writer) *tabwriter.Writer        { return shell.NewTable(w) }
func wantArgs(least, most int) cobra.PositionalArgs { return declare.Args(least, most) }

// usageArgs is wantArgs for verbs that end as a command does: what is wrong with their use has an
// exit code of its own.
func usageArgs(least, most int) cobra.PositionalArgs {
	want := wantArgs(least, most)
	return func(cmd *cobra.Command, args []string) error {
		if err := want(cmd, args); err != nil {
			return shell.Misused(err)
		}
		return nil
	}
}

// of makes a verb of another package one of the table.
func of(make func(*shell.Shell) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command { return make(a.shell) }
}
