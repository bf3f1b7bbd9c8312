// Package declare is what the constructors of verbs say in the same words: how many arguments
// there are, and which names complete one.
package declare

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Args checks the number of arguments; most may be -1 for any number.
func Args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		why := ""
		switch n := len(args); {
		case n < least:
			why = "too few arguments"
		case most >= 0 && n > most:
			why = "too many arguments"
		default:
			return nil
		}
		return errs.Newf(errs.Invalid, "", cmd.CommandPath(), why).WithHint("write " + cmd.UseLine())
	}
}

// Containers completes the first arguments with names of containers that are in one
// of the states, or in any if none is given. A negative most is any number of arguments.
func Containers(s *shell.Shell, most int, states ...engine.ContainerStatus) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		eng, err := s.Engine()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, err := eng.ContainerNames(begun, states...)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
