package cgroup

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel/nest"
)

// Hierarchy is one mounted tree of groups.
type Hierarchy struct {
	Mount       string   // "/sys/fs/cgroup/memory"; empty: there is none
	Controllers []string // v1: bound to it; v2: what Base can hand to the groups below
	Base        string   // group below which the caller may make others, "/" for the root; empty: nowhere
}

// has reports whether a controller can be used in the hierarchy.
func (t Hierarchy) has(controller string) bool { return slices.Contains(t.Controllers, controller) }

// Host is what the machine offers. With a v2 hierarchy alone V1 is empty; with V1 alone V2's
// Mount is; a hybrid has both, each controller in one of them.
type Host struct {
	V2   Hierarchy
	V1   []Hierarchy
	Unit Hierarchy // of v1, without controllers: systemd knows by it what is in which unit
	Root bool      // the caller may load a device filter: it has the host's root's rights, as far as can be told cheaply
}

// Detect finds the hierarchies where every distribution mounts them; there may be none. The
// mount table is not read: it grows with everything that is mounted, and a start has no time
// for that. With v2 alone, root's answer takes six system calls.
func Detect() Host { return detect("/sys/fs/cgroup", "/proc/self/cgroup") }

func detect(mount, proc string) Host {
	host := Host{Root: unix.Geteuid() == 0 && !nest.Inside()}
	for _, dir := range [...]string{mount, mount + "/unified"} {
		// Of all file systems only cgroup2 has this file.
		controllers, err := readFile(dir + "/cgroup.controllers")
		if err != nil {
			continue
		}
		host.V2 = Hierarchy{Mount: dir}
		if writable(dir, "/") {
			host.V2.Base, host.V2.Controllers = "/", strings.Fields(controllers)
		}
		break
	}
	if host.V2.Mount == mount && host.V2.Base != "" {
		return host
	}
	own, _ := readFile(proc) // missing if the kernel has no control groups
	for line := range strings.Lines(own) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, group, _ := strings.Cut(rest, ":")
		switch {
		case names == namedSystemd:
			if b := base(mount+"/systemd", group); b != "" {
				host.Unit = Hierarchy{Mount: mount + "/systemd", Controllers: []string{names}, Base: b}
			}
		case strings.Contains(names, "="): // a hierarchy with a name has no controllers
		case names != "":
			host.addV1(mount, names, group)
		case host.V2.Mount != "" && host.V2.Base == "":
			host.V2.Base = base(host.V2.Mount, group)
			controllers, _ := readFile(path.Join(host.V2.Mount, host.V2.Base, "cgroup.controllers"))
			if host.V2.Base != "" {
				host.V2.Controllers = strings.Fields(controllers)
			}
		}
	}
	return host
}

// Below is the host for whoever has a group of v2 that is not found from the caller's own.
func (h Host) Below(group string) Host {
	if h.V2.Mount != "" && h.V2.Base == "" && writable(h.V2.Mount, group) {
		controllers, _ := readFile(path.Join(h.V2.Mount, group, "cgroup.controllers"))
		h.V2.Base, h.V2.Controllers = group, strings.Fields(controllers)
	}
	return h
}

// namedSystemd is the name of that hierarchy, as /proc/self/cgroup and mount(8) have it.
const namedSystemd = "name=systemd"

// Hierarchies is the trees of v1, of which a container may be part.
func (h Host) Hierarchies() []Hierarchy {
	if h.Unit.Base == "" {
		return h.V1
	}
	return append(slices.Clone(h.V1), h.Unit)
}

// Name is how the tree is called: by its controllers, or "systemd".
func (t Hierarchy) Name() string {
	return strings.TrimPrefix(strings.Join(t.Controllers, ","), "name=")
}

// addV1 takes in a v1 hierarchy with its controllers and the caller's group in it.
func (h *Host) addV1(mount, names, group string) {
	// Controllers mounted together, "cpu,cpuacct", have a link for each.
	controllers := strings.Split(names, ",")
	t := Hierarchy{Mount: mount + "/" + controllers[0], Controllers: controllers}
	t.Base = base(t.Mount, group)
	if t.Base != "" || unix.Access(t.Mount+"/cgroup.procs", unix.F_OK) == nil {
		h.V1 = append(h.V1, t)
	}
}

// base is the highest group, from the root or else from the caller's own, in which the
// caller may make groups and put processes. That is what delegation gives: an ordinary user's
// systemd instance owns user@UID.service and everything below it.
func base(mount, own string) string {
	if writable(mount, "/") {
		return "/"
	}
	found := ""
	if strings.HasPrefix(own, "/..") {
		return "" // outside what the caller's cgroup namespace shows
	}
	for group := own; group != "/" && writable(mount, group); group = path.Dir(group) {
		found = group
	}
	return found
}

// writable reports whether the caller may put processes into the group, which takes the
// same rights as making groups below it wherever groups were delegated as they should be.
func writable(mount, group string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path.Join(mount, group, "cgroup.procs"), unix.W_OK, unix.AT_EACCESS) == nil
}
