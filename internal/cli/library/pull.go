package library

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// Pull brings an image from its registry.
func Pull(sh *shell.Shell) *cobra.Command {
	quiet, platform := false, ""
	cmd := &cobra.Command{
		Use: "pull [flags] NAME[:TAG|@DIGEST]",
		Long: `Bring an image from its registry.

Layers that are here already, of whatever image, are not fetched again, and a file that any
image has is kept once. Credentials come from the files of docker login and podman login. Where
the registry is, which mirrors are asked first and which registries may be spoken to without
TLS is said in /etc/corten/registries.json or Podman's registries.conf.`,
		Example: `  corten pull debian:12
  corten pull --platform linux/arm64 registry.example.org/team/app:1.4
  corten pull localhost:5000/app@sha256:...`,
		Args:              declare.Args(1, 1),
		ValidArgsFunction: completeImages(sh, 1),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print the image's name only")
	fs.StringVar(&platform, "platform", "", "Pull the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.Interruptible(cmd.Context(), func(ctx context.Context) error {
			return pull(sh, ctx, engine.PullRequest{Name: args[0], Platform: platform}, quiet)
		})
	}
	return cmd
}

func pull(sh *shell.Shell, ctx context.Context, req engine.PullRequest, quiet bool) error {
	eng, err := sh.Engine()
	if err != nil {
		return err
	}
	bars := sh.Progress("Pulling", quiet)
	req.Progress = bars.Tell
	p, err := eng.Pull(ctx, req)
	bars.Close()
	if err != nil {
		return err
	}
	warnPlatform(sh, p.Image, req.Platform)
	if quiet {
		_, err = fmt.Fprintln(sh.Stdout, p.Image.Ref)
		return err
	}
	status := "Image is up to date for "
	if p.News {
		status = "Downloaded newer image for "
	}
	_, err = fmt.Fprintf(sh.Stdout, "Digest: %s\nStatus: %s%s\n%s\n", p.Image.Target.Digest, status, p.Ref.Familiar(), p.Image.Ref)
	return err
}

// warnPlatform tells that an image will hardly run here, unless it was asked for.
func warnPlatform(sh *shell.Shell, x engine.Image, asked string) {
	if here := engine.HostPlatform(); asked == "" && x.Platform.Architecture != "" && x.Platform.Architecture != here.Architecture {
		sh.Say("warning: the image is for " + x.Platform.String() + ", and this machine is " + here.String())
	}
}
