package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

func newExport(a *app) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "export [flags] CONTAINER",
		Long: `Write the root file system of a container as a tar, with owners as the container knows them.
What is in its volumes is not part of it. corten import makes an image of such a tar.`,
		Example:           "  corten export web | corten import - web:flat\n  corten export -o web.tar web",
		Args:              wantArgs(1, 1),
		ValidArgsFunction: a.completeContainers(1),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to `FILE` instead of stdout")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			if err := a.refuseTerminal("export", "use -o FILE, or a pipe"); err != nil {
				return err
			}
		}
		eng, err := a.engine()
		if err != nil {
			return err
		}
		_ = eng.Tidy()
		return a.interruptible(cmd.Context(), func(ctx context.Context) error {
			if file == "" {
				return export(ctx, eng, args[0], a.env.Stdout)
			}
			return exportTo(ctx, eng, args[0], file)
		})
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

// exportTo writes to a file. One that is not complete is removed.
func exportTo(ctx context.Context, eng *engine.Engine, ref, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return errs.Wrap("write tar", file, err)
	}
	err = errors.Join(export(ctx, eng, ref, f), f.Close())
	if info, serr := os.Lstat(file); err != nil && serr == nil && info.Mode().IsRegular() {
		_ = os.Remove(file)
	}
	return err
}
