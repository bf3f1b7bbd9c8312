package life

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/seccomp"
	"github.com/cortenhq/corten/internal/spec"
)

// planGroups plans the control groups. The container joins all that count or limit something: whoever
// drives this command reads them, and may limit later.
func planGroups(path string, place record.Place, c *spec.Container, in *bundled.Input) (cgroup.Plan, error) {
	if strings.Contains(path, ":") {
		return cgroup.Plan{}, errs.Newf(errs.Unsupported, "use cgroupsPath", path, "groups made by systemd are not there yet").
			WithHint("have your engine use the driver cgroupfs for control groups")
	}
	host := cgroup.Detect()
	parent, name := groupName(path, place)
	p, err := cgroup.New(host, cgroup.Request{Resources: c.Resources, Parent: parent, ID: name, Account: true, Ready: true, Every: true})
	if err != nil {
		return p, err
	}
	in.Groups = plan.Groups{Make: plan.MakeGroups{Dirs: p.Group, Writes: p.Words()}, V2: p.V2, Enter: p.Enter}
	switch {
	case len(host.V1) == 0 && host.V2.Mount != "":
		in.Groups.Mount = []plan.MountFS{{Type: "cgroup2", Source: "cgroup"}}
	case c.Namespaces.Cgroup.Mode == spec.Private:
		// Only those that the container is part of: of others it would see the host's.
		var names [][]string
		for _, h := range host.V1 {
			if slices.ContainsFunc(p.Group, func(dir string) bool { return strings.HasPrefix(dir, h.Mount+"/") }) {
				names = append(names, h.Controllers)
			}
		}
		in.Groups.Mount = bundled.GroupViews(names, p.V2 != "")
	default:
		for _, dir := range p.Group {
			in.Binds = append(in.Binds, plan.File{Source: plan.Source{Path: dir}, Target: hierarchy(host, dir), What: "its control group"})
		}
	}
	return p, nil
}

// hierarchy is the name of the hierarchy that a group is in.
func hierarchy(host cgroup.Host, dir string) string {
	for _, h := range host.V1 {
		if strings.HasPrefix(dir, h.Mount+"/") {
			return strings.Join(h.Controllers, ",")
		}
	}
	return "unified"
}

// filter compiles the seccomp profile, or finds it compiled; nil if there is none. Compiled ones are
// kept in a folder that is no container's.
func filter(root string, sec spec.Security) (*plan.Filter, error) {
	if sec.Unconfined {
		return nil, nil
	}
	prog, err := seccomp.Cached(filepath.Join(root, "seccomp,cache"), sec.Seccomp, seccomp.Host)
	if err != nil {
		return nil, err
	}
	f := &plan.Filter{Name: "of config.json", Flags: prog.Flags, Program: make([]plan.Instruction, len(prog.Insns))}
	if prog.Notify() {
		f.Listener = sec.Seccomp.ListenerPath
	}
	for i, in := range prog.Insns {
		f.Program[i] = plan.Instruction(in)
	}
	return f, nil
}

// modules is what is known of the host: security modules that a label is wanted of have to be there.
func modules(sec spec.Security) (f plan.Facts, err error) {
	maps, _ := os.ReadFile("/proc/self/uid_map")
	f.Nested = strings.Join(strings.Fields(string(maps)), " ") != "0 0 4294967295"
	groups, _ := os.ReadFile("/proc/self/setgroups")
	f.Alone = strings.TrimSpace(string(groups)) == "deny"
	if sec.AppArmor != "" && sec.AppArmor != spec.NoProfile {
		if f.AppArmor, _ = lsm.AppArmor(); !f.AppArmor {
			return f, noModule("process.apparmorProfile", sec.AppArmor)
		}
	}
	if label := sec.SELinux + sec.SELinuxMount; label != "" {
		if f.SELinux, _ = lsm.SELinux(); !f.SELinux {
			return f, noModule("process.selinuxLabel and linux.mountLabel", label)
		}
	}
	return f, nil
}

func noModule(what, label string) error {
	return errs.Newf(errs.Unsupported, "use "+what, label, "the security module is not active on this host").
		WithHint("leave it out of config.json, or boot with the module")
}
