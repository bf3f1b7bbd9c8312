package spec

import (
	"maps"
	"slices"

	"github.com/cortenhq/corten/internal/oci"
)

// Config is the configuration of an image that starts as the container was started: what it
// is complete with, over what its image says. It undoes Complete.
//
// As with Docker, triggers for builds (ONBUILD) are not handed on.
func (c *Container) Config(below oci.Config) oci.Config {
	out := below
	out.OnBuild = nil
	out.Env, out.Labels = slices.Clone(c.Process.Env), maps.Clone(c.Labels)
	out.StopSignal = c.Life.StopSignal
	if c.Namespaces.User.Mode != UserKeepID { // else it is the caller's number
		out.User = c.Process.User
	}
	if c.Process.Cwd != "/" || below.WorkingDir != "" {
		out.WorkingDir = c.Process.Cwd
	}
	entry, args := c.Process.Split()
	out.Entrypoint, out.Cmd = slices.Clone(entry), slices.Clone(args)
	out.Volumes = maps.Clone(below.Volumes)
	for _, m := range c.Mounts {
		if m.Anonymous {
			if out.Volumes == nil {
				out.Volumes = map[string]struct{}{}
			}
			out.Volumes[m.Target] = struct{}{}
		}
	}
	out.ExposedPorts = maps.Clone(below.ExposedPorts)
	of := exposed(below)
	for _, s := range c.Networking.Expose {
		if slices.Contains(of, s) {
			continue
		}
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[s.String()] = struct{}{}
	}
	out.Healthcheck = c.Life.Health.config(below.Healthcheck)
	return out
}

// Split is the command line of a complete process: the entrypoint, and what follows it.
func (p *Process) Split() (entry, args []string) {
	n := min(p.EntryArgs, len(p.Args))
	if n > 0 {
		entry = p.Args[:n:n]
	}
	return entry, p.Args[n:]
}

func (h *Health) config(below *oci.Healthcheck) *oci.Healthcheck {
	switch {
	case h == nil:
		return below
	case h.Off:
		return &oci.Healthcheck{Test: []string{"NONE"}}
	}
	return &oci.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
		StartInterval: h.StartInterval, Retries: h.Retries}
}
