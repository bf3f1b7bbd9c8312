package runflags

import (
	"math"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// life is how the container begins and ends.
type life struct {
	rm, init, noInit        bool
	stopSignal, stopTimeout string
	restart                 string
	notify, systemd         string
}

func (f *life) bind(g group) {
	g.yesNo(&f.rm, "rm", "", false, "Remove the container and its anonymous volumes when it ends")
	g.text(&f.restart, "restart", "", "When to start it again: `POLICY` is no, on-failure[:TIMES], always or unless-stopped (default no)")
	g.yesNo(&f.init, "init", "", true, "Run corten-init as PID 1: it reaps orphans and passes signals on")
	g.yesNo(&f.noInit, "no-init", "", false, "Make the command itself PID 1, as --init=false does")
	g.text(&f.stopSignal, "stop-signal", "", "`SIGNAL` that asks the container to end (default SIGTERM)")
	g.text(&f.stopTimeout, "stop-timeout", "", "`SECONDS` to wait for the end before killing; -1 waits for ever (default 10)")
	g.text(&f.systemd, "systemd", "", "Make the container as systemd wants it: `WHEN` is auto, if the command is an init; always; or false (default auto)")
	g.text(&f.notify, "sdnotify", "", "`WHO` tells the systemd outside that it is ready: container, keeper, or ignore for nobody (default ignore)")
}

func (f *life) fill(c *spec.Container, set *pflag.FlagSet) error {
	l := &c.Life
	if f.noInit && f.init && set.Changed("init") {
		return values.Conflict("--init", "--no-init", "they say the opposite")
	}
	l.Remove, l.NoInit = f.rm, f.noInit || !f.init
	var err error
	if l.StopSignal, err = values.Signal("stop-signal", f.stopSignal); err != nil {
		return err
	}
	if f.stopTimeout != "" {
		n, err := values.Int("stop-timeout", f.stopTimeout, -1, math.MaxInt32)
		if err != nil {
			return err
		}
		seconds := int(n)
		l.StopTimeout = &seconds
	}
	if l.Restart, err = values.Restart(f.restart); err != nil {
		return err
	}
	if l.Remove && l.Restart.Policy != spec.RestartNo {
		return values.Conflict("--rm", "--restart", "a container that is removed cannot be started again")
	}
	switch f.systemd {
	case "", "auto", "true":
	case "always":
		l.Systemd = spec.SystemdAlways
	case "false":
		l.Systemd = spec.SystemdNever
	default:
		return values.Bad("systemd", f.systemd, "no such choice", "write auto, always or false")
	}
	switch f.notify {
	case "", "ignore":
	case "container":
		l.Notify = spec.NotifyContainer
	case "keeper", "conmon": // Podman's word for its keeper
		l.Notify = spec.NotifyKeeper
	case "healthy":
		return values.NotBuilt("--sdnotify healthy", "the choices are container, keeper and ignore")
	default:
		return values.Bad("sdnotify", f.notify, "no such choice", "write container, keeper or ignore")
	}
	return nil
}
