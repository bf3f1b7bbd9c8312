package cli

import (
	"context"
	"encoding/json"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func newRun(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "run [flags] IMAGE|host [COMMAND [ARGUMENT...]]",
		Long: `Run a command in a new container, and wait for it to end.

The container's root file system is an image, or with the word host this machine's own root,
read-only and without its private places. By default the container has users, processes, host
name, memory segments and control groups of its own, and no network. What stands after IMAGE
belongs to the command.

The exit code is the command's; 125 if Corten could not do what it was asked, 126 if the command
cannot be executed, 127 if it does not exist, 128 and the number of the signal that ended it.`,
		Example: `  corten run --rm host -- id
  corten run --rm -it debian:12 bash
  corten run --rm --memory 256m --cpus 0.5 -v ./data:/data:ro debian:12 wc /data/file
  corten run --plan --read-only debian:12 true`,
		Args: usageArgs(1, -1),
	}
	flags := bindContainer(cmd, runflags.Run)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, opts, err := flags.Request(args[0], commandOf(args), runflags.Caller{LookupEnv: a.env.LookupEnv})
		if err != nil {
			return runExit(err)
		}
		if opts.Plan != runflags.NoPlan {
			return runExit(a.printPlan(cmd.Context(), req, opts.Plan))
		}
		if opts.Detach {
			if err := a.notDetached(); err != nil {
				return runExit(err)
			}
			return runExit(a.makeContainer(cmd.Context(), req, opts, (*engine.Engine).RunDetached))
		}
		if err := a.attachOnly(opts.Attach, req.Spec.Process.Stdin); err != nil {
			return runExit(err)
		}
		h := req.Spec.Life.Health
		if req.Spec.Life.Restart.Policy != "" || h != nil && !h.Off || cmd.Flags().Changed("detach-keys") { // needs a keeper
			return runExit(a.runAttached(cmd.Context(), req, opts))
		}
		return runExit(a.runContainer(cmd.Context(), req, opts))
	}
	return cmd
}

func (a *app) printPlan(ctx context.Context, req engine.RunRequest, form runflags.PlanForm) error {
	eng, err := a.engine()
	if err != nil {
		return err
	}
	p, err := eng.Plan(ctx, req)
	if err != nil {
		return err
	}
	if form == runflags.PlanWords {
		return p.Print(a.env.Stdout)
	}
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(p)
}

// inputFits refuses what would be typed where nobody types.
func (a *app) inputFits(typed bool) error {
	if typed && !term.IsTerminal(int(a.env.Stdin.Fd())) {
		return errs.Newf(errs.Invalid, "", "-i with -t", "the input device is not a TTY").
			WithHint("leave -t out to feed the command from a pipe or a file")
	}
	return nil
}

// runContainer starts a container, attends to it and ends as it ended.
func (a *app) runContainer(ctx context.Context, req engine.RunRequest, opts runflags.Options) error {
	proc := &req.Spec.Process
	if err := a.inputFits(proc.Terminal && proc.Stdin); err != nil {
		return err
	}
	if proc.Terminal {
		proc.Size = a.terminalSize()
	}
	eng, err := a.engine()
	if err != nil {
		return err
	}
	if req.Passed, err = a.passed(opts.PreserveFDs); err != nil {
		return err
	}
	cid, err := makeCIDFile(opts.CIDFile)
	if err != nil {
		return err
	}
	w := watchSignals(opts.SigProxy, proc.Terminal)
	bars := a.progress("Pulling", opts.Quiet)
	req.Progress, req.Quiet = bars.Tell, opts.Quiet
	r, err := a.start(w.until(ctx), eng, req, opts.Unnamed)
	bars.Close()
	if err != nil {
		cid.remove()
		if sig := w.endedBy(); sig != 0 {
			return signaled(sig)
		}
		return err
	}
	if err := cid.write(r.ID); err != nil {
		a.say("warning: " + err.Error())
	}
	terminal, err := own(r.Terminal)
	if err != nil {
		return err
	}
	end, err := a.attend(w, guest{terminal, func() { r.Terminal.Close() }, proc.Stdin, r.Signal, r.Wait, r.Tee})
	r.EndLog()
	if err != nil {
		return err
	}
	if end.Message != "" {
		a.say(end.Message)
	}
	if end.Code == 0 {
		return nil
	}
	return &exit{end.Code, nil}
}

// start tries other names if the one that was made up is taken.
func (a *app) start(ctx context.Context, eng *engine.Engine, req engine.RunRequest, unnamed bool) (*engine.Running, error) {
	for tries := 0; ; tries++ {
		r, err := eng.Start(ctx, req)
		if !unnamed || tries == 3 || !errs.Is(err, errs.Exists) {
			return r, err
		}
		req.Spec.Name = values.OtherName()
	}
}

// terminalSize is the size of the user's terminal; nil if neither stream is one.
func (a *app) terminalSize() *spec.Size {
	for _, f := range []*os.File{a.env.Stdout, a.env.Stdin} {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return &spec.Size{Rows: ws.Row, Columns: ws.Col}
		}
	}
	return nil
}

// cidFile is the file of --cidfile; nil if there is none. It is made before the container,
// so that two commands cannot both believe in it.
type cidFile struct{ file *os.File }

func makeCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errs.Is(err, errs.Exists) {
		return nil, errs.New(errs.Exists, "", "--cidfile", err).WithHint("remove it if the container that it names is gone")
	}
	if err != nil {
		return nil, errs.Wrap("", "--cidfile", err)
	}
	return &cidFile{f}, nil
}

func (c *cidFile) write(id spec.ContainerID) error {
	if c == nil {
		return nil
	}
	defer c.file.Close()
	_, err := c.file.WriteString(string(id))
	return err
}

func (c *cidFile) remove() {
	if c != nil {
		_ = c.file.Close()
		_ = os.Remove(c.file.Name())
	}
}
