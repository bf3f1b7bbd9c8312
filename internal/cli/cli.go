// Package cli is the command line: it reads what was typed, asks the engine, and says what
// came of it. It knows nothing of containers itself. Package front is a short cut through it,
// for the program corten.
//
// A verb is a file with a constructor func(*app) *cobra.Command, and one line in the table of
// verbs.go that names it. Only the verb that was typed is constructed, for building them all
// would cost every start; all are for help, completion and the manual. A constructor must
// therefore do nothing but declare, and the verb's short words come from the table. A verb
// with verbs of its own ("image inspect") is one line too: its constructor returns
// a.family(name, verbs...).
//
// RunE returns an error of package errs; Main says it in the voice of shell/say.go and ends with
// Docker's exit code (shell/exit.go). What a verb needs is in a shell.Shell: the engine, opened
// at first use, and the streams. Output that a user may want in another form goes through its
// Format. Verbs that look at containers are in package look, those about volumes in volumes.
package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/shell"
)

// Env is the process that a command line is carried out in.
type Env = shell.Env

// app is one command line while it is carried out.
type app struct {
	env    Env
	args   []string       // as they were typed
	global *pflag.FlagSet // flags that stand before the verb or among its own
	shell  *shell.Shell
}

// Main carries out a command line, without the program's name, and returns the exit code.
func Main(ctx context.Context, args []string, env Env) int {
	a := newApp(env)
	for _, arg := range args {
		a.args = append(a.args, strings.Clone(arg)) // exec blanks those of the process
	}
	args, a.shell.Args = a.args, a.args
	return a.shell.Exit(a.dispatch(ctx, args))
}

func newApp(env Env) *app {
	a := &app{env: env, shell: &shell.Shell{Env: env}, global: pflag.NewFlagSet("corten", pflag.ContinueOnError)}
	a.shell.BindGlobal(a.global)
	return a
}

// dispatch finds the verb, and has cobra parse and run that one.
func (a *app) dispatch(ctx context.Context, args []string) error {
	first := pflag.NewFlagSet("corten", pflag.ContinueOnError)
	first.SetInterspersed(false) // what follows the verb is the verb's
	first.AddFlagSet(a.global)
	help := first.BoolP("help", "h", false, "")
	version := first.BoolP("version", "v", false, "")
	if err := first.Parse(args); err != nil {
		return flagError("corten", first, err)
	}
	rest := first.Args()
	switch {
	case *version:
		return a.shell.SayVersion("")
	case *help || len(rest) == 0:
		return a.help(rest)
	case rest[0] == "help":
		return a.help(rest[1:])
	}
	root := a.rootCommand()
	if err := a.addVerb(root, rest[0]); err != nil {
		return err
	}
	root.SetArgs(rest)
	return root.ExecuteContext(ctx)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "corten",
		Short:             "Run containers",
		Long:              "Corten runs containers. There is no daemon: the command is the engine, and files are the state.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddGroup(groups()...)
	root.PersistentFlags().AddFlagSet(a.global)
	root.SetIn(a.env.Stdin)
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { a.writeHelp(cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { return a.writeHelp(cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError(cmd.CommandPath(), cmd.Flags(), err)
	})
	root.SetHelpCommand(a.helpCommand())
	return root
}
