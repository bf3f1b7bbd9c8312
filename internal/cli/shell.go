package cli

import (
	"context"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

// What the verbs of this package use most of the shell, by shorter names.

func (a *app) engine() (*engine.Engine, error)       { return a.shell.Engine() }
func (a *app) say(text string)                       { a.shell.Say(text) }
func (a *app) sayError(err error)                    { a.shell.SayError(err) }
func (a *app) format(form string, list ...any) error { return a.shell.Format(form, list...) }

func (a *app) progress(verb string, quiet bool) *show.Progress { return a.shell.Progress(verb, quiet) }
func (a *app) supplying(ctx context.Context, work func(context.Context) error) error {
	return a.shell.Supplying(ctx, work)
}

func newTable(w io.Writer) *tabwriter.Writer        { return shell.NewTable(w) }
func wantArgs(least, most int) cobra.PositionalArgs { return shell.WantArgs(least, most) }

// usageArgs is wantArgs for verbs that end as a command does: what is wrong with their use has an
// exit code of its own.
func usageArgs(least, most int) cobra.PositionalArgs {
	want := wantArgs(least, most)
	return func(cmd *cobra.Command, args []string) error {
		if err := want(cmd, args); err != nil {
			return usage(err)
		}
		return nil
	}
}

// of makes a verb of another package one of the table.
func of(make func(*shell.Shell) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command { return make(a.shell) }
}
