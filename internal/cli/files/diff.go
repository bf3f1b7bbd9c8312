package files

import (
	"bufio"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
)

// Diff is corten diff.
func Diff(s *shell.Shell) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "diff [flags] CONTAINER",
		Long: `List what a container changed in its root since it was made: A added, C changed, D deleted.
A directory is changed if something in it is. What is in volumes and other mounts is not
compared.`,
		Example:           "  corten diff web\n  corten diff --format '{{.Kind}} {{.Path}}' web",
		Args:              declare.Args(1, 1),
		ValidArgsFunction: declare.Containers(s, 1),
	}
	cmd.Flags().StringVar(&format, "format", "", "Print as `json`, a change a line, or by a Go template")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := s.Engine()
		if err != nil {
			return err
		}
		_ = eng.Tidy()
		list, err := eng.Diff(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if format != "" {
			values := make([]any, len(list))
			for i, c := range list {
				values[i] = c
			}
			return s.Format(format, values...)
		}
		w := bufio.NewWriter(s.Stdout)
		for _, c := range list {
			_, _ = w.WriteString(string(c.Kind) + " " + c.Path + "\n")
		}
		return w.Flush()
	}
	return cmd
}
