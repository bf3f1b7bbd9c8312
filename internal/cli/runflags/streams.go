package runflags

import (
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Streams is a choice of the container's standard streams.
type Streams struct{ Stdin, Stdout, Stderr bool }

// streams is how the command and the container are tied together.
type streams struct {
	attach           []string
	detach, sigProxy bool
	keys, fds        string
}

func (f *streams) bind(g group, mode Mode) {
	g.list(&f.attach, "attach", "a", "Attach `STREAM`: STDIN, STDOUT or STDERR (repeatable; default STDOUT and STDERR, with -i all)")
	if mode == Create {
		return
	}
	g.yesNo(&f.detach, "detach", "d", false, "Start the container in the background and print its id")
	g.text(&f.keys, "detach-keys", "", "Leave the container running when `KEYS`, such as ctrl-p,ctrl-q, are typed (default none)")
	g.text(&f.fds, "preserve-fds", "", "Pass `NUMBER` open descriptors on, from 3, or from behind those of systemd's socket activation (default 0)")
	g.yesNo(&f.sigProxy, "sig-proxy", "", true, "Pass the signals that corten receives on to the container")
}

func (f *streams) fill(o *Options, c *spec.Container) error {
	o.Detach, o.SigProxy = f.detach, f.sigProxy
	var err error
	if o.DetachKeys, err = values.Keys(f.keys); err != nil {
		return err
	}
	fds, err := values.Int("preserve-fds", f.fds, 0, 1000)
	if err != nil {
		return err
	}
	if o.PreserveFDs = int(fds); fds > 0 && f.detach {
		return values.Conflict("--detach", "--preserve-fds", "a container that is started again could not have them again")
	}
	if fds > 0 && f.keys != "" {
		return values.Conflict("--detach-keys", "--preserve-fds", "a container that can be left would be started without them again")
	}
	for _, s := range f.attach {
		switch strings.ToLower(s) {
		case "stdin":
			o.Attach.Stdin = true
		case "stdout":
			o.Attach.Stdout = true
		case "stderr":
			o.Attach.Stderr = true
		default:
			return values.Bad("attach", s, "no such stream", "write STDIN, STDOUT or STDERR")
		}
	}
	if f.detach && len(f.attach) > 0 {
		return values.Conflict("--detach", "--attach", "they say the opposite")
	}
	if o.Attach.Stdin && !c.Process.Stdin {
		return errs.Newf(errs.Invalid, "", "--attach stdin without --interactive", "the container has no standard input").WithHint("add -i")
	}
	if o.Attach != (Streams{}) && c.Process.Terminal && !o.Attach.Stdout {
		return errs.Newf(errs.Invalid, "", "--tty without --attach stdout", "a terminal is shown there").WithHint("add -a stdout, or leave -t out")
	}
	return nil
}
