// Package front is the command line as far as programs type it by the thousand: run, create,
// exec and what keepers ask for. Every other command line, and every one that it has the least
// doubt about, it leaves as it is to package cli, in the program corten-image. That one knows
// flags and verbs to the last word of help, which a start that only runs something pays for: a
// sixth of a millisecond for what is linked, and executed at the start.
package front

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/attend"
	"github.com/cortenhq/corten/internal/cli/keep"
	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/programs"
)

// work is what a command line asks for.
type work func(context.Context) error

// Main carries out a command line, without the program's name, and returns the exit code; or
// another program takes the place of this one.
func Main(ctx context.Context, args []string, env shell.Env) int {
	s := &shell.Shell{Env: env}
	for _, arg := range args {
		s.Args = append(s.Args, strings.Clone(arg)) // exec blanks those of the process
	}
	do := read(s)
	if do == nil {
		settle(s)
		do = func(context.Context) error { return handOver(s.Args) }
	}
	return s.Exit(do(ctx))
}

// settle waits until an ordinary user is root of his user namespace. run and create do so when they
// have to.
func settle(s *shell.Shell) {
	if s.Refused == nil {
		s.Refused = nest.Settle()
	}
}

// read finds out what a command line asks for; nil if that is for package cli to say.
func read(s *shell.Shell) work {
	global := quiet()
	s.BindGlobal(global)
	if global.Parse(s.Args) != nil || global.NArg() == 0 {
		return nil
	}
	verb, args := global.Arg(0), global.Args()[1:]
	if verb != "run" && verb != "create" {
		settle(s)
	}
	switch {
	case verb == "version" && len(args) == 0:
		return func(context.Context) error { return s.SayVersion("") }
	case verb == "keep":
		return keep.Step(s, args)
	case verb == "run" || verb == "create":
		return container(s, verb, args, global)
	case verb == "exec":
		set := quiet()
		flags := runflags.BindExec(set)
		if args = rest(set, global, args, 2); args == nil {
			return nil
		}
		return func(ctx context.Context) error { return attend.Exec(ctx, s, flags, args) }
	}
	return nil
}

func container(s *shell.Shell, verb string, args []string, global *pflag.FlagSet) work {
	mode, do := runflags.Run, attend.Run
	if verb == "create" {
		mode, do = runflags.Create, attend.Create
	}
	set := quiet()
	flags := runflags.Bind(set, mode)
	if args = rest(set, global, args, 1); args == nil {
		return nil
	}
	return func(ctx context.Context) error { return do(ctx, s, flags, args) }
}

// rest is what stands after a verb's flags; nil if they are not all known, such as --help, or
// if there are fewer arguments than the verb takes.
func rest(set, global *pflag.FlagSet, args []string, least int) []string {
	set.AddFlagSet(global) // they may stand among the verb's own
	if set.Parse(args) != nil || set.NArg() < least {
		return nil
	}
	return set.Args()
}

// quiet is a set of flags that stand before the arguments, and says nothing itself.
func quiet() *pflag.FlagSet {
	set := pflag.NewFlagSet("corten", pflag.ContinueOnError)
	set.SetInterspersed(false)
	set.Usage = func() {}
	return set
}

// handOver executes the whole command line in the place of this process.
func handOver(args []string) error {
	tool, err := programs.Find("corten-image")
	if err != nil {
		return err
	}
	return errs.Wrap("execute", tool, unix.Exec(tool, append([]string{"corten"}, args...), os.Environ()))
}
