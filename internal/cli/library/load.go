package library

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Load loads images from an archive.
func Load(sh *shell.Shell) *cobra.Command {
	req, quiet := engine.LoadRequest{}, false
	cmd := &cobra.Command{
		Use: "load [flags]",
		Long: `Load images from an archive that docker save, podman save, skopeo or another tool wrote.

The archive is a docker-archive, an oci-archive or the folder of an OCI image layout. A tar may be
plain or compressed with gzip or zstd, and may come from a pipe.`,
		Example: `  corten load -i debian.tar
  docker save debian:12 | corten load
  corten load -i ./layout/`,
		Args: declare.Args(0, 0),
	}
	fs := cmd.Flags()
	fs.StringVarP(&req.Path, "input", "i", "", "Read from `FILE` or folder (default the standard input)")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Do not show progress")
	fs.StringVar(&req.Platform, "platform", "", "Load the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if req.Path == "" && term.IsTerminal(int(sh.Stdin.Fd())) {
			return errs.Newf(errs.Invalid, "load", "", "the standard input is a terminal").WithHint("name an archive with --input, or feed one in")
		}
		req.Stream = sh.Stdin
		return sh.Interruptible(cmd.Context(), func(ctx context.Context) error { return load(sh, ctx, req, quiet) })
	}
	return cmd
}

func load(sh *shell.Shell, ctx context.Context, req engine.LoadRequest, quiet bool) error {
	eng, err := sh.Engine()
	if err != nil {
		return err
	}
	bars := sh.Progress("Loading", quiet)
	req.Progress = bars.Tell
	var lines []string
	req.Each = func(l engine.LoadedImage) {
		for _, ref := range l.Refs {
			lines = append(lines, "Loaded image: "+ref.Familiar())
		}
		if len(l.Refs) == 0 {
			lines = append(lines, "Loaded image ID: "+string(l.Image.ID))
		}
		warnPlatform(sh, l.Image, req.Platform)
	}
	err = eng.Load(ctx, req)
	bars.Close()
	for _, l := range lines {
		if _, werr := fmt.Fprintln(sh.Stdout, l); err == nil {
			err = werr
		}
	}
	return err
}
