package runflags

import (
	"math"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
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
	if l.StopSignal, err = Signal(f.stopSignal); err != nil {
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
	if l.Restart, err = ParseRestart(f.restart); err != nil {
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

// ParseRestart reads --restart.
func ParseRestart(s string) (spec.Restart, error) {
	name, times, counted := strings.Cut(s, ":")
	var r spec.Restart
	switch p := spec.RestartPolicy(name); {
	case name == "" && !counted, name == "no":
	case p == spec.RestartOnFailure, p == spec.RestartAlways, p == spec.RestartUnlessStopped:
		r.Policy = p
	default:
		return r, values.Bad("restart", s, "no such policy", "write no, on-failure, on-failure:5, always or unless-stopped")
	}
	if !counted {
		return r, nil
	}
	if r.Policy != spec.RestartOnFailure {
		return r, values.Bad("restart", s, "only on-failure counts how often", "write "+name+", or on-failure:"+times)
	}
	if times == "" {
		return r, values.Bad("restart", s, "the number is missing", "write on-failure:5, or on-failure to go on without end")
	}
	n, err := values.Int("restart", times, 0, math.MaxInt32)
	r.Max = int(n)
	return r, err
}

// Signal brings a signal to the form SIGTERM. As for Docker it may be written without
// SIG, in small letters, or as a number.
func Signal(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if n, err := values.Int("stop-signal", s, 1, 64); err == nil {
		if name := unix.SignalName(unix.Signal(n)); name != "" {
			return name, nil
		}
		return s, nil // a real-time signal, which has a number only
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if engine.SignalOf(name) == 0 {
		return "", values.Bad("stop-signal", s, "no such signal", "kill -l lists them; a number from 1 to 64 works too")
	}
	return name, nil
}
