package cgroup

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Hierarchy is one mounted tree of groups.
type Hierarchy struct {
	Mount       string   // "/sys/fs/cgroup/memory"; empty: there is none
	Controllers []string // v1: bound to it; v2: what Base can hand to the groups below
	Base        string   // group below which the caller may make others, "/" for the root; empty: nowhere
}

// has reports whether a controller can be used in the hierarchy.
func (t Hierarchy) has(controller string) bool { return slices.Contains(t.Controllers, controller) }

// name is what a user knows the hierarchy by.
func (t Hierarchy) name() string { return strings.Join(t.Controllers, ",") }

// Host is what the machine offers. With a v2 hierarchy alone V1 is empty; with V1 alone V2's
// Mount is; a hybrid has both, each controller in one of them.
type Host struct {
	V2   Hierarchy
	V1   []Hierarchy
	Root bool // the caller may load a device filter: it has the host's root's rights, as far as can be told cheaply
}

// Detect finds the hierarchies where every distribution mounts them. The mount table is not
// read: it grows with everything that is mounted, and a start has no time for that.
func Detect() (Host, error) { return detect("/sys/fs/cgroup", "/proc/self/cgroup") }

func detect(mount, proc string) (Host, error) {
	host := Host{Root: unix.Geteuid() == 0}
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err != nil {
		return Host{}, errs.New(errs.Unsupported, "find control groups", mount, err).
			WithHint("mount them: mount -t cgroup2 cgroup2 " + mount)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		host.V2.Mount = mount
		if writable(mount, "/") {
			host.V2.Base = "/"
			return host, host.V2.readControllers()
		}
	}
	own, err := readFile(proc)
	if err != nil {
		return Host{}, errs.Wrap("find control groups", proc, err)
	}
	for line := range strings.Lines(own) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, group, _ := strings.Cut(rest, ":")
		host.add(mount, names, group)
	}
	return host, host.V2.readControllers()
}

// add takes in one line of /proc/self/cgroup, "ID:CONTROLLERS:GROUP": the v2 hierarchy has
// no controllers there, and a hierarchy with a name has none at all.
func (h *Host) add(mount, names, group string) {
	if strings.Contains(names, "=") {
		return
	}
	if names == "" {
		if h.V2.Mount == "" {
			var st unix.Statfs_t
			dir := mount + "/unified"
			if unix.Statfs(dir, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
				return
			}
			h.V2.Mount = dir
		}
		h.V2.Base = base(h.V2.Mount, group)
		return
	}
	// Controllers mounted together, "cpu,cpuacct", have a link for each.
	controllers := strings.Split(names, ",")
	dir := mount + "/" + controllers[0]
	if unix.Access(dir+"/cgroup.procs", unix.F_OK) != nil {
		return
	}
	h.V1 = append(h.V1, Hierarchy{Mount: dir, Controllers: controllers, Base: base(dir, group)})
}

// base is the highest group, from the root or else from the caller's own, in which the
// caller may make groups and put processes. That is what delegation gives: an ordinary user's
// systemd instance owns user@UID.service and everything below it.
func base(mount, own string) string {
	if writable(mount, "/") {
		return "/"
	}
	found := ""
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

// readControllers reads what the base can hand down. A hierarchy without a base has nothing.
func (t *Hierarchy) readControllers() error {
	if t.Base == "" {
		return nil
	}
	s, err := readFile(path.Join(t.Mount, t.Base, "cgroup.controllers"))
	if err != nil {
		return errs.Wrap("find control groups", t.Mount, err)
	}
	t.Controllers = strings.Fields(s)
	return nil
}
