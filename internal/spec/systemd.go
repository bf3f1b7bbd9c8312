package spec

import (
	"slices"
	"strings"
)

// IsSystemd reports whether the container is made as systemd wants to find it as PID 1.
func (c *Container) IsSystemd() bool {
	switch c.Life.Systemd {
	case SystemdAlways:
		return true
	case SystemdNever:
		return false
	}
	if len(c.Process.Args) == 0 {
		return false
	}
	// Other programs called init, such as /init, are no systemd and need none of it.
	switch name := c.Process.Args[0]; name {
	case "systemd", "init", "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init":
		return true
	default:
		return strings.HasSuffix(name, "/systemd")
	}
}

// StopSystemd has systemd shut down in good order (systemd(1), "Signals").
const StopSystemd = "SIGRTMIN+3"

// completeSystemd is what systemd wants of its surroundings: to be PID 1, its own stop signal,
// and in memory what does not outlive a machine that is switched off. That is also so for its
// log, of which Corten keeps what goes to the console.
func (c *Container) completeSystemd() {
	if !c.IsSystemd() {
		return
	}
	c.Life.NoInit = true
	c.Life.StopSignal = first(c.Life.StopSignal, StopSystemd)
	for _, t := range []struct {
		target string
		mode   uint32
		exec   bool
	}{{"/run", 0o755, false}, {"/run/lock", 0o1777, false}, {"/tmp", 0o1777, true}, {"/var/log/journal", 0o755, false}} {
		taken := slices.ContainsFunc(c.Mounts, func(m Mount) bool { return strings.TrimRight(m.Target, "/") == t.target })
		if !taken {
			c.Mounts = append(c.Mounts, Mount{Type: Tmpfs, Target: t.target, Mode: &t.mode, Exec: t.exec})
		}
	}
}
