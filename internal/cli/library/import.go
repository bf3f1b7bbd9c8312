package library

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Import makes an image of a root file system.
func Import(sh *shell.Shell) *cobra.Command {
	req := engine.ImportRequest{}
	cmd := &cobra.Command{
		Use: "import [flags] FILE|- [NAME[:TAG]]",
		Long: `Make an image of one layer from the tar of a root file system, which may be compressed.

What the tar does not say, such as the command to run, is added with --change, an instruction of a
Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER,
VOLUME or WORKDIR. The image's id is printed.`,
		Example: `  debootstrap --variant=minbase bookworm ./root && tar -C root -c . | corten import - debian:mine
  corten import -c 'CMD ["nginx"]' -c 'ENV LANG=C.UTF-8' root.tar.zst web`,
		Args: declare.Args(1, 2),
	}
	fs := cmd.Flags()
	fs.StringArrayVarP(&req.Changes, "change", "c", nil, "Apply `INSTRUCTION` of a Dockerfile")
	fs.StringVarP(&req.Message, "message", "m", "", "Set the comment of the image to `TEXT`")
	fs.StringVar(&req.Platform, "platform", "", "The root file system is for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			req.Name = args[1]
		}
		if req.Path = args[0]; req.Path == "-" {
			req.Path, req.Stream = "", sh.Stdin
		} else if isURL(req.Path) && !fileExists(req.Path) {
			return errs.Newf(errs.Unsupported, "import", req.Path, "an address, not a file").
				WithHint("fetch it first: curl -L " + req.Path + " | corten import -")
		}
		return sh.Interruptible(cmd.Context(), func(ctx context.Context) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			x, err := eng.Import(ctx, req)
			if err == nil {
				_, err = fmt.Fprintln(sh.Stdout, x.ID)
			}
			return err
		})
	}
	return cmd
}

func isURL(s string) bool {
	for _, scheme := range [...]string{"http://", "https://", "ftp://"} {
		if strings.HasPrefix(s, scheme) {
			return true
		}
	}
	return false
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
