package checkpoint

import (
	"slices"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Trustful refuses the description of a container that has more of a host than one has by default: it came with an archive,
// and nobody here has asked for that.
func Trustful(c *spec.Container) error {
	no := func(what string) error {
		return errs.Newf(errs.Denied, "import container", c.Name, "it wants "+what).
			WithHint("if you trust who wrote the archive, say --trust")
	}
	n, sec := c.Namespaces, c.Security
	switch {
	case c.Root.Path != "" || c.Image.Platform:
		return no("a folder of the host as its root")
	case sec.Privileged, sec.AllowNewPrivs, sec.Sets != nil, sec.NoKeyring:
		return no("privileges")
	case sec.Unconfined, sec.Seccomp != nil:
		return no("a system call filter of its own, or none")
	case lacks(sec.Masked, plan.DefaultMasked()), lacks(sec.ReadOnlyPaths, plan.DefaultReadOnly()):
		return no("to see what is hidden from others, or to write to it")
	case sec.AppArmor == "unconfined":
		return no("no profile of AppArmor")
	case n.User.Mode != spec.UserAuto:
		return no("the users of the host")
	case n.Net.Mode == spec.Host || n.PID.Mode == spec.Host || n.IPC.Mode == spec.Host || n.UTS.Mode == spec.Host || n.Cgroup.Mode == spec.Host:
		return no("namespaces of the host")
	case len(c.Devices) > 0 || len(c.Sysctls) > 0:
		return no("devices or sysctls")
	}
	for _, name := range sec.Capabilities {
		if !slices.Contains(plan.DefaultCaps(), name) {
			return no(name)
		}
	}
	for _, m := range c.Mounts {
		if m.Type == spec.Bind || m.Type == spec.Volume && !m.Anonymous {
			return no(m.Source + " at " + m.Target)
		}
	}
	return nil
}

// lacks reports whether a list has not all that it has by default.
func lacks(list, usual []string) bool {
	return slices.ContainsFunc(usual, func(p string) bool { return !slices.Contains(list, p) })
}
