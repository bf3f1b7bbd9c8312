package attend

import (
	"context"
	"encoding/json"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Run is the verb run.
func Run(ctx context.Context, s *shell.Shell, flags *runflags.Flags, args []string) error {
	return shell.RunExit(newAttendant(s).run(ctx, flags, args))
}

func (a *attendant) run(ctx context.Context, flags *runflags.Flags, args []string) error {
	req, opts, err := a.request(flags, args)
	if err != nil {
		return err
	}
	if opts.Plan != runflags.NoPlan {
		return a.printPlan(ctx, req, opts.Plan)
	}
	if opts.Detach {
		if err := a.notDetached(); err != nil {
			return err
		}
		return a.makeContainer(ctx, req, opts, (*engine.Engine).RunDetached)
	}
	if err := a.attachOnly(opts.Attach, req.Spec.Process.Stdin); err != nil {
		return err
	}
	h := req.Spec.Life.Health
	if req.Spec.Life.Restart.Policy != "" || h != nil && !h.Off || flags.Given("detach-keys") { // needs a keeper
		return a.runAttached(ctx, req, opts)
	}
	return a.runContainer(ctx, req, opts)
}

// request reads the flags, and says what has no effect of them.
func (a *attendant) request(flags *runflags.Flags, args []string) (engine.RunRequest, runflags.Options, error) {
	req, opts, err := flags.Request(args[0], commandOf(args), runflags.Caller{LookupEnv: a.env.LookupEnv})
	if err == nil && opts.Warning != "" {
		a.shell.Say("warning: " + opts.Warning)
	}
	return req, opts, err
}

func (a *attendant) printPlan(ctx context.Context, req engine.RunRequest, form runflags.PlanForm) error {
	eng, err := a.shell.Engine()
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
func (a *attendant) inputFits(typed bool) error {
	if typed && !term.IsTerminal(int(a.env.Stdin.Fd())) {
		return errs.Newf(errs.Invalid, "", "-i with -t", "the input device is not a TTY").
			WithHint("leave -t out to feed the command from a pipe or a file")
	}
	return nil
}

// warn says what was found to stop the container's packets, when it has been started.
func (a *attendant) warn(eng *engine.Engine, req *engine.RunRequest) {
	if !req.Spec.Connected() {
		return
	}
	if w := eng.NetworkWarning(); w != "" {
		a.shell.Say("warning: " + w)
	}
}

// runContainer starts a container, attends to it and ends as it ended.
func (a *attendant) runContainer(ctx context.Context, req engine.RunRequest, opts runflags.Options) error {
	proc := &req.Spec.Process
	if err := a.inputFits(proc.Terminal && proc.Stdin); err != nil {
		return err
	}
	if proc.Terminal {
		proc.Size = a.terminalSize()
	}
	eng, err := a.shell.Engine()
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
	bars := a.shell.Progress("Pulling", opts.Quiet)
	req.Progress, req.Quiet = bars.Tell, opts.Quiet
	r, err := a.start(w.until(ctx), eng, req, opts.Unnamed)
	bars.Close()
	if err != nil {
		cid.remove()
		if sig := w.endedBy(); sig != 0 {
			return shell.Signaled(sig)
		}
		return err
	}
	if err := cid.write(r.ID); err != nil {
		a.shell.Say("warning: " + err.Error())
	}
	a.warn(eng, &req)
	terminal, err := own(r.Terminal)
	if err != nil {
		return err
	}
	end, err := a.attend(w, guest{terminal, func() { r.Terminal.Close() }, proc.Stdin, r.Signal, r.Wait, r.Tee})
	r.EndLog()
	if err != nil {
		return err
	}
	return a.endAs(end)
}

// start tries other names if the one that was made up is taken.
func (a *attendant) start(ctx context.Context, eng *engine.Engine, req engine.RunRequest, unnamed bool) (*engine.Running, error) {
	for tries := 0; ; tries++ {
		r, err := eng.Start(ctx, req)
		if !unnamed || tries == 3 || !errs.Is(err, errs.Exists) {
			return r, err
		}
		req.Spec.Name = values.OtherName()
	}
}

// terminalSize is the size of the user's terminal; nil if neither stream is one.
func (a *attendant) terminalSize() *spec.Size {
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
