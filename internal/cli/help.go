package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/runflags"
)

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show help for a command",
		GroupID: tools,
		RunE:    func(_ *cobra.Command, args []string) error { return a.help(args) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return verbNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// help shows the help of the command that args lead to.
func (a *app) help(args []string) error {
	root := a.rootCommand()
	a.addAll(root)
	cmd := root
	for _, name := range args {
		next := child(cmd, name)
		if next == nil {
			return unknownVerb(cmd.CommandPath(), name, verbNames())
		}
		cmd = next
	}
	cmd.InitDefaultHelpFlag()
	return a.writeHelp(cmd)
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// writeHelp is our own, since cobra's needs text/template, which would add 2 MB to the
// binary and keep the linker from dropping what is not called.
func (a *app) writeHelp(cmd *cobra.Command) error {
	var b strings.Builder
	words := cmd.Long
	if words == "" {
		words = cmd.Short
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", words, usageLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	writeVerbs(&b, cmd)
	width := a.width()
	for _, s := range FlagGroups(cmd) {
		fmt.Fprintf(&b, "\n%s:\n%s", s.Name, s.Flags.FlagUsagesWrapped(width))
	}
	if cmd.HasSubCommands() {
		fmt.Fprintf(&b, "\n%s COMMAND --help tells more of a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(a.env.Stdout, b.String())
	return err
}

func usageLine(cmd *cobra.Command) string {
	if cmd.HasSubCommands() {
		return cmd.CommandPath() + " [flags] COMMAND"
	}
	return cmd.UseLine()
}

// width is that of the terminal, or 0 for lines of any length.
func (a *app) width() int {
	w, _, err := term.GetSize(int(a.env.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// writeVerbs lists the commands below cmd under their headings.
func writeVerbs(w io.Writer, cmd *cobra.Command) {
	heading := func(title string, in func(*cobra.Command) bool) {
		first := true
		for _, c := range cmd.Commands() {
			if c.Hidden || !in(c) {
				continue
			}
			if first {
				fmt.Fprintf(w, "\n%s:\n", title)
				first = false
			}
			fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	for _, g := range cmd.Groups() {
		heading(g.Title, func(c *cobra.Command) bool { return c.GroupID == g.ID })
	}
	heading("Commands", func(c *cobra.Command) bool { return c.GroupID == "" })
}

// FlagGroup is the flags of a command that belong together.
type FlagGroup struct {
	Name  string
	Flags *pflag.FlagSet
}

// FlagGroups are the flags of cmd under their headings, the global ones last.
func FlagGroups(cmd *cobra.Command) []FlagGroup {
	var out []FlagGroup
	at := func(name string) *pflag.FlagSet {
		for _, g := range out {
			if g.Name == name {
				return g.Flags
			}
		}
		set := pflag.NewFlagSet(name, pflag.ContinueOnError)
		set.SortFlags = false
		out = append(out, FlagGroup{name, set})
		return set
	}
	local := func(f *pflag.Flag) {
		name := "Flags"
		if g := f.Annotations[runflags.GroupKey]; len(g) > 0 {
			name = g[0]
		}
		if !f.Hidden {
			at(name).AddFlag(f)
		}
	}
	if cmd.HasParent() { // the root's own are the global ones
		own := cmd.NonInheritedFlags()
		own.SortFlags = false
		own.VisitAll(local)
	}
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { at("Global flags").AddFlag(f) })
	return out
}
