package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
)

func newCommit(a *app) *cobra.Command {
	req, pause := engine.CommitRequest{}, true
	cmd := &cobra.Command{
		Use: "commit [flags] CONTAINER [NAME[:TAG]]",
		Long: `Make an image of a container: a layer of what it changed, on the image that it was made from.

The image starts as the container was started: with its command, environment, user and so on,
changed by --change, an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR. What is in volumes is not part of
it. The image's id is printed.`,
		Example:           "  corten commit web web:fixed\n  corten commit -a 'A. Uthor' -m 'with vim' -c 'CMD [\"vim\"]' box editor",
		Args:              wantArgs(1, 2),
		ValidArgsFunction: a.completeContainers(1),
	}
	fs := cmd.Flags()
	fs.StringVarP(&req.Author, "author", "a", "", "Set the author of the image to `NAME`")
	fs.StringArrayVarP(&req.Changes, "change", "c", nil, "Apply `INSTRUCTION` of a Dockerfile")
	fs.StringVarP(&req.Message, "message", "m", "", "Set the comment of the image to `TEXT`")
	fs.BoolVarP(&pause, "pause", "p", true, "Freeze the container while it is read")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.Container, req.NoPause = args[0], !pause
		if len(args) > 1 {
			req.Name = args[1]
		}
		return a.shell.Interruptible(cmd.Context(), func(ctx context.Context) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			_ = eng.Tidy()
			x, err := eng.Commit(ctx, req)
			if err == nil {
				_, err = fmt.Fprintln(a.env.Stdout, x.ID)
			}
			return err
		})
	}
	return cmd
}
