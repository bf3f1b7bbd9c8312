package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/programs"
)

// Said is the failure of another program of ours, which has told the user about it.
type Said struct{ Code int }

func (e *Said) Error() string { return "another program failed with status " + strconv.Itoa(e.Code) }

// bring pulls the image of a request, by corten-image if this program cannot.
func (e *Engine) bring(ctx context.Context, req draft.Request) error {
	if e.cfg.Supplier != nil {
		_, err := e.Pull(ctx, PullRequest{Name: req.Spec.Image.Name, Platform: req.Platform, Progress: req.Progress})
		return err
	}
	tool, err := programs.Find("corten-image")
	if err == nil {
		err = nest.Settle()
	}
	if err != nil {
		return err
	}
	args := []string{"--root", e.cfg.Root, "--run", e.cfg.Run, "pull"}
	if req.Platform != "" {
		args = append(args, "--platform", req.Platform)
	}
	cmd := exec.CommandContext(ctx, tool, append(args, "--", req.Spec.Image.Name)...)
	cmd.Stderr = os.Stderr
	if req.Quiet {
		cmd.Args = slices.Insert(cmd.Args, len(cmd.Args)-2, "--quiet")
	} else {
		cmd.Stdout = os.Stderr // stdout is the container's
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return &Said{max(x.ExitCode(), 1)}
	}
	return errs.Wrap("start", tool, err)
}
