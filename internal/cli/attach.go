package cli

import (
	"bytes"
	"context"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/life"
	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// attachFlags are those of attach and start.
type attachFlags struct {
	stdin, proxy bool
	keys         string // as they are typed
}

func (f *attachFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.keys, "detach-keys", "", "Leave the container running when `KEYS` are typed (default ctrl-p,ctrl-q)")
	cmd.Flags().BoolVar(&f.proxy, "sig-proxy", true, "Pass the signals that corten receives on to the container")
}

// ready finds the bytes that the keys to leave stand for, and returns an engine that has looked
// after containers whose owner was killed.
func (f *attachFlags) ready(a *app) (*engine.Engine, error) {
	eng, err := a.engine()
	if err != nil {
		return nil, err
	}
	if f.keys, err = values.Keys(f.keys); err != nil {
		return nil, usage(err)
	}
	return eng, eng.Tidy()
}

func newAttach(a *app) *cobra.Command {
	f := attachFlags{}
	noStdin := false
	cmd := &cobra.Command{
		Use: "attach [flags] CONTAINER",
		Long: `Show the output of a running container, send it input, pass signals on, and end as it ends.

The container does not notice: who reads slowly or goes away keeps it from nothing.`,
		Args:              wantArgs(1, 1),
		ValidArgsFunction: a.completeContainers(1, "running"),
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "Send no input")
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := f.ready(a)
		if err != nil {
			return err
		}
		f.stdin = !noStdin && eng.HasStdin(args[0])
		return runExit(a.attachTo(cmd.Context(), eng, args[0], f, engine.AttachRequest{Stdin: f.stdin}))
	}
	return cmd
}

func newStart(a *app) *cobra.Command {
	f := attachFlags{}
	attach := false
	cmd := &cobra.Command{
		Use:               "start [flags] CONTAINER...",
		Long:              "Start containers that are not running.",
		Example:           "  corten start web db\n  corten start -ai shell",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "created", "exited"),
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "Show its output, pass signals on, and end as it ends")
	cmd.Flags().BoolVarP(&f.stdin, "interactive", "i", false, "Attach, and send it input")
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !attach && !f.stdin {
			return life.Each(a.shell, args, func(eng *engine.Engine, ref string) error { return eng.StartContainer(cmd.Context(), ref) })
		}
		if len(args) > 1 {
			return usage(errs.Newf(errs.Invalid, "start", "", "only one container can be attached").WithHint("start them without --attach and --interactive"))
		}
		return runExit(a.startAttached(cmd.Context(), args[0], f))
	}
	return cmd
}

// attachTo attaches to a container and ends as it ends, or when the user types the keys to
// leave it.
func (a *app) attachTo(ctx context.Context, eng *engine.Engine, ref string, f attachFlags, req engine.AttachRequest) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	isTerminal := term.IsTerminal(int(a.env.Stdin.Fd()))
	w := watchSignals(f.proxy, isTerminal)
	att, err := eng.Attach(w.until(ctx), ref, req)
	if err != nil {
		if sig := w.endedBy(); sig != 0 {
			return signaled(sig)
		}
		return err
	}
	defer att.Close()
	g := guest{terminal: att.Terminal, stdin: f.stdin, signal: att.Signal}
	t := &terminals{user: a.env.Stdin, guest: att.Terminal, size: a.terminalSize}
	defer t.restore()
	if att.Terminal != nil && f.stdin && isTerminal {
		if err := t.raw(); err != nil {
			return errs.Wrap("prepare terminal", "", err)
		}
	}
	left := make(chan struct{})
	if att.Terminal != nil {
		w.started(func(s unix.Signal) { t.signal(w, g, s) })
		defer w.over()
		t.resize()
	} else {
		w.started(func(s unix.Signal) { w.pass(g, s) })
	}
	if f.stdin {
		go func() {
			defer t.restoreOnPanic()
			if copyInput(att, a.env.Stdin, f.keys, isTerminal) {
				close(left)
				leave()
				return
			}
			att.EndInput()
		}()
	}
	err = att.Output(ctx, a.env.Stdout, a.env.Stderr)
	select {
	case <-left:
		t.restore()
		a.say("left the container running: corten attach " + ref + " comes back")
		return nil
	default:
	}
	if err != nil {
		return err
	}
	end, err := att.Wait(ctx)
	if err != nil {
		return err
	}
	t.restore()
	if end.Message != "" {
		a.say(end.Message)
	}
	if end.Code == 0 {
		return nil
	}
	return &exit{end.Code, nil}
}

// copyInput copies until the input ends, or the keys to leave have come, which it reports.
// What begins like the keys waits until it is clear whether it is them.
func copyInput(to io.Writer, from io.Reader, keys string, keyed bool) bool {
	buf := make([]byte, 32<<10)
	var held []byte
	for {
		n, err := from.Read(buf)
		b := append(held, buf[:n]...)
		held = nil
		if keyed && n > 0 {
			if i := bytes.Index(b, []byte(keys)); i >= 0 {
				_, _ = to.Write(b[:i])
				return true
			}
			for k := min(len(keys)-1, len(b)); k > 0; k-- {
				if bytes.HasSuffix(b, []byte(keys[:k])) {
					held = bytes.Clone(b[len(b)-k:])
					b = b[:len(b)-k]
					break
				}
			}
		}
		if len(b) > 0 {
			if _, werr := to.Write(b); werr != nil {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
}

// startAttached starts a container and attaches to it.
func (a *app) startAttached(ctx context.Context, ref string, f attachFlags) error {
	eng, err := f.ready(a)
	if err != nil {
		return err
	}
	return a.attachTo(ctx, eng, ref, f, engine.AttachRequest{Stdin: f.stdin, Start: engine.ByStart})
}

// runAttached runs a container that has a keeper, since it is to be started again or its
// health is to be checked, and attaches to it.
func (a *app) runAttached(ctx context.Context, req engine.RunRequest, opts runflags.Options) error {
	p := &req.Spec.Process
	if err := a.inputFits(p.Terminal && p.Stdin); err != nil {
		return err
	}
	p.StdinOnce = p.Stdin
	if p.Terminal {
		p.Size = a.terminalSize()
	}
	eng, err := a.engine()
	if err != nil {
		return err
	}
	id, err := a.createContainer(ctx, eng, req, opts, (*engine.Engine).Create)
	if err != nil {
		return err
	}
	f := attachFlags{stdin: p.Stdin, proxy: opts.SigProxy, keys: opts.DetachKeys}
	return a.attachTo(ctx, eng, string(id), f, engine.AttachRequest{Stdin: p.Stdin, Start: engine.ByRun})
}
