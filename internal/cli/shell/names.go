package shell

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
)

// CompleteContainers completes the first arguments with names of containers that are in one
// of the states, or in any if none is given. A negative most is any number of arguments.
func (s *Shell) CompleteContainers(most int, states ...engine.ContainerStatus) cobra.CompletionFunc {
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
