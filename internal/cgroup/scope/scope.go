// Package scope has systemd keep a container's control group, as a scope: engines that let systemd
// manage groups ask for it ("slice:prefix:name" in cgroupsPath).
//
// A scope is made around a process that is there, and goes when it is empty. So one that does nothing is
// in it (package launch, StandIn) until the container's own is born there. Limits are written to the group's files as ever,
// and told to systemd too, which would else forget them when it writes its own (daemon-reload).
package scope

import (
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/systemd"
)

// Scope is the unit of a container.
type Scope struct {
	Unit  string // "libpod-1a2b.scope"
	Slice string // that it is in: "machine.slice"
}

// Parse reads "slice:prefix:name". Without a slice it is the one that runc takes, without all of it
// the name is the container's.
func Parse(text, container string, user bool) (Scope, error) {
	if text == "" {
		text = ":corten:" + container
	}
	bad := func(why string) (Scope, error) {
		return Scope{}, errs.Newf(errs.Invalid, "use cgroupsPath", text, why).
			WithHint("for groups made by systemd write slice:prefix:name, such as machine.slice:corten:web")
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[2] == "" {
		return bad("it is not slice:prefix:name")
	}
	s := Scope{Slice: parts[0], Unit: parts[2] + ".scope"}
	if parts[1] != "" {
		s.Unit = parts[1] + "-" + s.Unit
	}
	if s.Slice == "" && user {
		s.Slice = "user.slice"
	} else if s.Slice == "" {
		s.Slice = "system.slice"
	}
	if _, ok := slicePath(s.Slice); !ok || strings.ContainsAny(s.Unit, "/\n") {
		return bad("there can be no such slice")
	}
	return s, nil
}

// slicePath is where a slice's group is: a-b.slice is in a.slice, and -.slice is the root.
func slicePath(slice string) (string, bool) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || strings.ContainsAny(name, "/\n") {
		return "", false
	}
	if name == "-" {
		return "/", true
	}
	dir, prefix := "/", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", false
		}
		prefix += part
		dir = path.Join(dir, prefix+".slice")
		prefix += "-"
	}
	return dir, true
}

// Parent is the group that the scope's is in, below that of its systemd.
func (s Scope) Parent(top string) string {
	dir, _ := slicePath(s.Slice)
	return path.Join(top, dir)
}

// Start has systemd make the scope around a process, with the limits of a plan, and what else is asked for.
func (s Scope) Start(m *systemd.Manager, pid int, p cgroup.Plan, more []systemd.Property) error {
	properties := []systemd.Property{
		{Name: "Description", Value: "container " + strings.TrimSuffix(s.Unit, ".scope")},
		{Name: "Slice", Value: s.Slice},
		{Name: "PIDs", Value: []uint32{uint32(pid)}},
		{Name: "Delegate", Value: true},
		// Else systemd would stop it before the engine does when the machine is shut down.
		{Name: "DefaultDependencies", Value: false},
	}
	optional := []systemd.Property{{Name: "CollectMode", Value: "inactive-or-failed"}} // systemd 236
	for _, what := range []string{"Memory", "CPU", "IO", "Tasks"} {
		optional = append(optional, systemd.Property{Name: what + "Accounting", Value: true})
	}
	return m.Start(s.Unit, append(properties, more...), append(optional, Limits(p)...))
}

// Enter moves this process below the group of a user's systemd, if it is elsewhere, as in a login
// session: the kernel lets nobody be born in a group who may not move there from his parent's.
func Enter(m *systemd.Manager, top string) error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return errs.Wrap("read", "/proc/self/cgroup", err)
	}
	for line := range strings.Lines(string(own)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok && strings.HasPrefix(group, strings.TrimSuffix(top, "/")+"/") {
			return nil
		}
	}
	return Around(m, os.Getpid(), "corten-"+strconv.Itoa(os.Getpid())+".scope")
}

// Around has systemd make a scope of a process, in which that may make groups of its own.
func Around(m *systemd.Manager, pid int, unit string) error {
	return m.Start(unit, []systemd.Property{
		{Name: "Description", Value: "commands of Corten"},
		{Name: "PIDs", Value: []uint32{uint32(pid)}},
		{Name: "Delegate", Value: true},
	}, []systemd.Property{{Name: "CollectMode", Value: "inactive-or-failed"}})
}
