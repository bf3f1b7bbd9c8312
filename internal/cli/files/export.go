package files

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Export is corten export.
func Export(s *shell.Shell) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "export [flags] CONTAINER",
		Long: `Write the root file system of a container as a tar, with owners as the container knows them.
What is in its volumes is not part of it. corten import makes an image of such a tar.`,
		Example:           "  corten export web | corten import - web:flat\n  corten export -o web.tar web",
		Args:              declare.Args(1, 1),
		ValidArgsFunction: declare.Containers(s, 1),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to `FILE` instead of stdout")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			if err := refuseTerminal(s, "export", "use -o FILE, or a pipe"); err != nil {
				return err
			}
		}
		eng, err := s.Engine()
		if err != nil {
			return err
		}
		_ = eng.Tidy()
		if file == "" {
			return export(cmd.Context(), eng, args[0], s.Stdout)
		}
		return exportTo(cmd.Context(), eng, args[0], file)
	}
	return cmd
}

func export(ctx context.Context, eng *engine.Engine, ref string, w io.Writer) error {
	buf := bufio.NewWriterSize(w, 256<<10)
	err := eng.Export(ctx, ref, buf)
	if err == nil {
		err = errs.Wrap("write tar", "", buf.Flush())
	}
	return err
}

// exportTo writes to a file, which is there only when it is complete: whoever is killed leaves
// nothing. What is no plain file, such as a pipe, is written to as it is.
func exportTo(ctx context.Context, eng *engine.Engine, ref, file string) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return errs.Wrap("write tar", file, err)
		}
		return errors.Join(export(ctx, eng, ref, f), f.Close())
	}
	t, err := disk.CreateTemp(filepath.Dir(file), 0o600)
	if err != nil {
		return errs.Wrap("write tar", file, err)
	}
	defer t.Close()
	if err := export(ctx, eng, ref, t); err != nil {
		return err
	}
	return errs.Wrap("write tar", file, t.Replace(file))
}
