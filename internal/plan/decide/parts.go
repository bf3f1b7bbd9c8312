package decide

import (
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Parts is what Make has in common with package bundled, which makes plans whose view of files is
// described mount by mount.
type Parts struct{ m *maker }

// PartsOf begins with a container's description.
func PartsOf(c *spec.Container, f *plan.Filter, host plan.Facts) Parts {
	return Parts{&maker{in: Input{Container: c, Filter: f, Host: host}, c: c}}
}

// Private reports whether the container has a user namespace.
func (p Parts) Private() bool { return p.m.private() }

// HostUser is a user of the container as the host numbers it.
func (p Parts) HostUser(uid uint32) (uint32, bool) {
	if !p.m.private() {
		return uid, true
	}
	return shift(p.m.c.Namespaces.User.UIDMap, uid)
}

// New is the namespaces that the process is created in, by name.
func (p Parts) New() []string {
	var names []string
	if p.m.private() && p.m.c.Namespaces.User.Path == "" {
		names = []string{"user"}
	}
	n := p.m.c.Namespaces.Mount
	for _, n := range append([]namespace{{"mount", n}}, p.m.namespaces()...) {
		if fresh(n.ns) && n.name != "cgroup" { // made once the group is entered: it shows what is below
			names = append(names, n.name)
		}
	}
	return names
}

// Fresh reports whether a namespace is made for the container.
func (p Parts) Fresh(n spec.Namespace) bool { return fresh(n) }

// Joined is the namespaces that are there already, each with the handle that it is opened as.
func (p Parts) Joined() []plan.Join { return p.m.joined() }

// Group is the handle of the i-th file by which the process enters a cgroup.
func (p Parts) Group(i int) plan.Handle { return groupHandle(i) }

// Limits sets resource limits: by the host, and what is left for the process at last.
func (p Parts) Limits() (host, last []plan.Step, err error) {
	m := *p.m
	err = m.limits()
	return m.host, m.lower, err
}

// Label is the labels of the exec.
func (p Parts) Label() []plan.Step {
	m := *p.m
	m.label()
	return m.child
}

// Clocks makes the time namespace, if there is one.
func (p Parts) Clocks() (host, child []plan.Step) {
	m := *p.m
	if len(m.c.Namespaces.TimeOffset) == 0 {
		return nil, nil
	}
	m.shiftClocks(timeOffsets)
	return []plan.Step{plan.OpenProc{Name: "timens_offsets", As: timeOffsets}}, m.child
}

// Keyring takes a session keyring.
func (p Parts) Keyring() []plan.Step {
	m := *p.m
	m.keyring()
	return m.child
}

// Filter installs the seccomp filter, if there is one.
func (p Parts) Filter() []plan.Step {
	m := *p.m
	m.filter()
	return m.child
}

// Bounding keeps these capabilities in the bounding set.
func Bounding(names []string) plan.DropBounding { return plan.DropBounding{Keep: sortCaps(names)} }
