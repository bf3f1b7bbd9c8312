package cli

import (
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// What the verbs of this package use most of the shell, by shorter names.

func (a *app) engine() (*engine.Engine, error)       { return a.shell.Engine() }
func (a *app) say(text string)                       { a.shell.Say(text) }
func (a *app) sayError(err error)                    { a.shell.SayError(err) }
func (a *app) sayButLast(err error) error            { return a.shell.SayButLast(err) }
func (a *app) confirm(what string) bool              { return a.shell.Confirm(what) }
func (a *app) printJSON(list []any) error            { return a.shell.PrintJSON(list) }
func (a *app) format(form string, list ...any) error { return a.shell.Format(form, list...) }
func (a *app) formatTable(form string, heads any, list ...any) error {
	return a.shell.FormatTable(form, heads, list...)
}

func newTable(w io.Writer) *tabwriter.Writer        { return shell.NewTable(w) }
func findTool(name string) (string, error)          { return shell.FindTool(name) }
func wantArgs(least, most int) cobra.PositionalArgs { return shell.WantArgs(least, most) }

// of makes a verb of another package one of the table.
func of(make func(*shell.Shell) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command { return make(a.shell) }
}
