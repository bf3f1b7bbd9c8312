package attend

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Attachment is how a user is attached to a container.
type Attachment struct {
	Stdin bool
	Proxy bool   // signals are passed on to the container
	Keys  string // the bytes that end it
}

// Attach attaches to a container and ends as it ends, or when the user types the keys to
// leave it.
func Attach(ctx context.Context, s *shell.Shell, eng *engine.Engine, ref string, f Attachment, req engine.AttachRequest) error {
	return newAttendant(s).attachTo(ctx, eng, ref, f, req)
}

func (a *attendant) attachTo(ctx context.Context, eng *engine.Engine, ref string, f Attachment, req engine.AttachRequest) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	isTerminal := term.IsTerminal(int(a.env.Stdin.Fd()))
	w := watchSignals(f.Proxy, isTerminal)
	att, err := eng.Attach(w.until(ctx), ref, req)
	if err != nil {
		if sig := w.endedBy(); sig != 0 {
			return shell.Signaled(sig)
		}
		return err
	}
	defer att.Close()
	g := guest{terminal: att.Terminal, stdin: f.Stdin, signal: att.Signal}
	t := &terminals{user: a.env.Stdin, guest: att.Terminal, size: a.terminalSize}
	defer t.restore()
	if att.Terminal != nil && f.Stdin && isTerminal {
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
	if f.Stdin {
		go func() {
			defer t.restoreOnPanic()
			if copyInput(att, a.env.Stdin, f.Keys, isTerminal) {
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
		a.shell.Say("left the container running: corten attach " + ref + " comes back")
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
	return a.endAs(end)
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

// runAttached runs a container that has a keeper, since it is to be started again or its
// health is to be checked, and attaches to it.
func (a *attendant) runAttached(ctx context.Context, req engine.RunRequest, opts runflags.Options) error {
	p := &req.Spec.Process
	if err := a.inputFits(p.Terminal && p.Stdin); err != nil {
		return err
	}
	p.StdinOnce = p.Stdin
	if p.Terminal {
		p.Size = a.terminalSize()
	}
	eng, err := a.shell.Engine()
	if err != nil {
		return err
	}
	id, err := a.createContainer(ctx, eng, req, opts, (*engine.Engine).Create)
	if err != nil {
		return err
	}
	f := Attachment{Stdin: p.Stdin, Proxy: opts.SigProxy, Keys: opts.DetachKeys}
	return a.attachTo(ctx, eng, string(id), f, engine.AttachRequest{Stdin: p.Stdin, Start: engine.ByRun})
}
