package runline

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

func (l *line) namespaces(c *spec.Container) {
	ns := c.Namespaces
	l.users(ns.User)
	for _, n := range []struct {
		name  string
		ns    spec.Namespace
		usual spec.NSMode
	}{{"pid", ns.PID, spec.Private}, {"ipc", ns.IPC, spec.Private}, {"uts", ns.UTS, spec.Private}, {"cgroupns", ns.Cgroup, spec.Private}} {
		switch {
		case n.ns.Mode == n.usual:
		case n.ns.Mode == spec.Path || n.ns.Mode == spec.Private:
			l.refuse("the "+n.name+" namespace "+n.ns.Path, "use one that a flag can name")
		default:
			l.flag(n.name, string(n.ns.Mode))
		}
	}
	l.text("hostname", ns.Hostname)
	l.text("domainname", ns.Domainname)
	for _, clock := range slices.Sorted(maps.Keys(ns.TimeOffset)) {
		l.flag("time-offset", clock+"="+time.Duration(ns.TimeOffset[clock]).String())
	}
	l.pairs("sysctl", c.Sysctls)
}

func (l *line) users(u spec.UserNS) {
	if u.Mode != spec.UserMap {
		l.text("userns", string(u.Mode))
		return
	}
	for _, m := range []struct {
		name string
		maps []spec.IDMap
	}{{"uidmap", u.UIDMap}, {"gidmap", u.GIDMap}} {
		for _, e := range m.maps {
			l.flag(m.name, strings.Join([]string{id(e.Container), id(e.Host), id(e.Size)}, ":"))
		}
	}
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func (l *line) security(s *spec.Security) {
	l.yes("privileged", s.Privileged)
	usual := plan.DefaultCaps()
	if s.Privileged {
		usual = plan.AllCaps()
	}
	for _, name := range plan.AllCaps() {
		switch have := slices.Contains(s.Capabilities, name); {
		case have && !slices.Contains(usual, name):
			l.flag("cap-add", name)
		case !have && slices.Contains(usual, name):
			l.flag("cap-drop", name)
		}
	}
	opt := func(on bool, text string) {
		if on {
			l.flag("security-opt", text)
		}
	}
	if s.Seccomp != nil {
		l.refuse("a seccomp profile that was read from a file", "name the file with --security-opt seccomp=FILE by hand")
	}
	opt(s.Unconfined && !s.Privileged, "seccomp=unconfined")
	opt(!s.Unconfined && s.Privileged, "seccomp=builtin")
	opt(s.AllowNewPrivs && !s.Privileged, "no-new-privileges=false")
	opt(!s.AllowNewPrivs && s.Privileged, "no-new-privileges=true")
	opt(s.AppArmor != "" && !(s.Privileged && s.AppArmor == "unconfined"), "apparmor="+s.AppArmor)
	l.paths(s)
	l.selinux(s)
}

// paths says which of the usual paths are shown, and which others hidden.
func (l *line) paths(s *spec.Security) {
	masked, readOnly := plan.DefaultMasked(), plan.DefaultReadOnly()
	if s.Privileged {
		masked, readOnly = nil, nil
	}
	// What is hidden begins with the usual paths, in their order, and goes on with the user's.
	kept, from := 0, 0
	for kept < len(s.Masked) {
		i := slices.Index(masked[from:], s.Masked[kept])
		if i < 0 {
			break
		}
		kept, from = kept+1, from+i+1
	}
	var shown []string
	for _, p := range masked {
		if !slices.Contains(s.Masked[:kept], p) {
			shown = append(shown, p)
		}
	}
	for _, p := range readOnly {
		if !slices.Contains(s.ReadOnlyPaths, p) {
			shown = append(shown, p)
		}
	}
	switch {
	case len(shown) == 0:
	case kept == 0 && len(s.ReadOnlyPaths) == 0:
		l.flag("security-opt", "unmask=ALL")
	default:
		l.flag("security-opt", "unmask="+strings.Join(shown, ":"))
	}
	if more := s.Masked[kept:]; len(more) > 0 {
		l.flag("security-opt", "mask="+strings.Join(more, ":"))
	}
}

// selinux takes USER:ROLE:TYPE:LEVEL apart; a level has colons of its own.
func (l *line) selinux(s *spec.Security) {
	parts, files := strings.SplitN(s.SELinux, ":", 4), strings.SplitN(s.SELinuxMount, ":", 4)
	if len(parts) < 4 || len(files) < 4 {
		return
	}
	for i, key := range []string{"user", "role", "type", "level"} {
		l.flag("security-opt", "label="+key+":"+parts[i])
	}
	l.flag("security-opt", "label=filetype:"+files[2])
}

// devices leaves out those that --privileged brings: all of the host by their own names, but
// for those that every container has anyway.
func (l *line) devices(c *spec.Container) {
	for _, d := range c.Devices {
		brought := c.Security.Privileged && d.HostPath == d.Path && d.Access == "rwm"
		switch d.Path {
		case "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx":
			brought = false
		}
		if !brought {
			l.flag("device", d.HostPath+":"+d.Path+":"+d.Access)
		}
	}
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	for _, r := range c.Resources.Devices {
		if !r.Allow {
			l.refuse("a rule that denies a device", "leave it out")
			continue
		}
		l.flag("device-cgroup-rule", r.Type+" "+number(r.Major)+":"+number(r.Minor)+" "+r.Access)
	}
}

func (l *line) limits(r spec.Resources) {
	m := r.Memory
	l.num("memory", m.Limit)
	usual := 2 * m.Limit
	if m.Limit > math.MaxInt64/2 {
		usual = -1
	}
	if m.Swap != usual {
		l.num("memory-swap", m.Swap)
	}
	l.num("memory-reservation", m.Reservation)
	if m.Swappiness != nil {
		l.flag("memory-swappiness", strconv.FormatUint(*m.Swappiness, 10))
	}
	l.yes("oom-kill-disable", m.DisableOOMKiller)
	c := r.CPU
	l.num("cpu-period", int64(c.Period))
	l.num("cpu-quota", c.Quota)
	l.num("cpu-shares", int64(c.Shares))
	l.text("cpuset-cpus", c.Cpus)
	l.text("cpuset-mems", c.Mems)
	l.num("cpu-rt-period", int64(c.RealtimePeriod))
	l.num("cpu-rt-runtime", c.RealtimeRuntime)
	if r.Pids.Limit != nil {
		l.flag("pids-limit", strconv.FormatInt(*r.Pids.Limit, 10))
	}
}
