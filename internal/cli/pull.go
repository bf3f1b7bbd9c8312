package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

func newPull(a *app) *cobra.Command {
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
		Args:              wantArgs(1, 1),
		ValidArgsFunction: a.completeImages(1),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print the image's name only")
	fs.StringVar(&platform, "platform", "", "Pull the image for `OS/ARCH[/VARIANT]` (default this machine's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.supplying(cmd.Context(), func(ctx context.Context) error {
			return a.pull(ctx, engine.PullRequest{Name: args[0], Platform: platform}, quiet)
		})
	}
	return cmd
}

func (a *app) pull(ctx context.Context, req engine.PullRequest, quiet bool) error {
	eng, err := a.engine()
	if err != nil {
		return err
	}
	bars := a.progress("Pulling", quiet)
	req.Progress = bars.Tell
	p, err := eng.Pull(ctx, req)
	bars.Close()
	if err != nil {
		return err
	}
	a.warnPlatform(p.Image, req.Platform)
	if quiet {
		_, err = fmt.Fprintln(a.env.Stdout, p.Image.Ref)
		return err
	}
	status := "Image is up to date for "
	if p.News {
		status = "Downloaded newer image for "
	}
	_, err = fmt.Fprintf(a.env.Stdout, "Digest: %s\nStatus: %s%s\n%s\n", p.Image.Target.Digest, status, p.Ref.Familiar(), p.Image.Ref)
	return err
}

// progress shows on stderr what the verb, such as "Pulling", does, unless nobody wants to
// see it.
func (a *app) progress(verb string, quiet bool) *show.Progress {
	if quiet {
		return show.NewProgress(nil, verb)
	}
	return show.NewProgress(a.env.Stderr, verb)
}

// warnPlatform tells that an image will hardly run here, unless it was asked for.
func (a *app) warnPlatform(x engine.Image, asked string) {
	if here := engine.HostPlatform(); asked == "" && x.Platform.Architecture != "" && x.Platform.Architecture != here.Architecture {
		a.say("warning: the image is for " + x.Platform.String() + ", and this machine is " + here.String())
	}
}

// supplying does work that brings images, here or, if this program links nothing for it,
// in corten-image, which takes the place of this process.
func (a *app) supplying(ctx context.Context, work func(context.Context) error) error {
	if a.env.Supplier != nil {
		return a.interruptible(ctx, work)
	}
	tool, err := findTool("corten-image")
	if err != nil {
		return err
	}
	return errs.Wrap("execute", tool, unix.Exec(tool, append([]string{"corten"}, a.args...), os.Environ()))
}

// interruptible gives work a context that ends when the user asks for an end; a second
// time ends it on the spot. Work with images makes much garbage in little memory, so it
// is collected more often than usual.
func (a *app) interruptible(ctx context.Context, work func(context.Context) error) error {
	debug.SetGCPercent(gcPercent)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	asked := make(chan unix.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals) // from now on a signal does what it does to any program
			asked <- s.(unix.Signal)
			cancel(errs.Newf(errs.Canceled, "", "", s.String()))
		case <-ctx.Done():
		}
	}()
	err := work(ctx)
	select {
	case s := <-asked:
		if err != nil {
			return &exit{exitSignal + int(s), err}
		}
	default:
	}
	return err
}

// gcPercent is how far the heap may grow over what is in use, in percent.
const gcPercent = 50
