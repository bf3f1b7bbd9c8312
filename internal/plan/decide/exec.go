package decide

import (
	"fmt"
	"path"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// ExecInput is all that a further process of a container depends on.
type ExecInput struct {
	Container  *spec.Container // as it was started
	Process    spec.Process    // what to execute; its Env comes over the container's
	Accounts   plan.Accounts   // of the container as it is now
	V2         string          // the container's directory on cgroup v2; empty: none
	Enter      []string        // the files "tasks" of its groups of cgroup v1
	Filter     *plan.Filter
	Host       plan.Facts
	Privileged bool // hold every capability of the container's user namespace
	Detached   bool // belongs to the container's PID 1, and writes nowhere

	FDs []plan.Handle // what it gets as descriptors 3 and up; the launcher opens them
}

// Handles of the plan itself.
const (
	groupV2   plan.Handle = "cgroup"
	hostProc  plan.Handle = "proc of the host"
	peer      plan.Handle = "terminal"
	nullWrite plan.Handle = "null"
)

// MakeExec decides what it takes to start one more process in a container that runs: the
// identity, the limits and the filter of the first one. Like Make it asks nothing of the host.
//
// Up to Fork the process is in the host's pid namespace, where the container cannot see it.
// The next one is born with the container's files and network, and soon has its users.
func MakeExec(in ExecInput) (plan.Plan, error) {
	if len(in.Process.Args) == 0 || in.Process.Args[0] == "" {
		return plan.Plan{}, errs.Newf(errs.Invalid, "plan command", "", "no command given").
			WithHint("write the command after the container: corten exec CONTAINER COMMAND")
	}
	c := *in.Container
	c.Process = processOf(in)
	c.Life.NoInit = true
	if in.Privileged {
		c.Security.Capabilities = plan.AllCaps()
	}
	m := &maker{in: Input{Container: &c, Accounts: in.Accounts, Filter: in.Filter, Host: in.Host, FDs: in.FDs}, c: &c}
	m.in.Host.Tied = false
	id, err := in.Accounts.Resolve(c.Process.User, c.Process.Groups)
	if err != nil {
		return plan.Plan{}, err
	}
	if err := m.openForExec(in, id); err != nil {
		return plan.Plan{}, err
	}
	m.join(in)
	if err := m.identity(id); err != nil {
		return plan.Plan{}, err
	}
	m.keepOut(in.Detached)
	return plan.Plan{Host: m.host, Child: m.child}, nil
}

// processOf is the container's process with what the request says instead. A process of a bundle is
// described in full.
func processOf(in ExecInput) spec.Process {
	if in.Container.Root.Path != "" {
		return in.Process
	}
	p, own := in.Process, in.Container.Process
	p.Env = spec.MergeEnv(own.Env, p.Env)
	p.Rlimits, p.OOMScore, p.Umask = own.Rlimits, own.OOMScore, own.Umask
	if p.Cwd == "" {
		p.Cwd = own.Cwd
	}
	if p.User == "" {
		p.User, p.Groups = own.User, own.Groups
	}
	return p
}

// openForExec is what the host side does. What stands after Clone is done when the program
// has been executed.
func (m *maker) openForExec(in ExecInput, id plan.Identity) error {
	m.openGroups(in)
	gid, known := m.hostGroup(id)
	switch {
	case m.c.Process.Terminal:
		uid := id.UID
		if m.private() {
			if uid, known = shift(m.c.Namespaces.User.UIDMap, id.UID); !known {
				return errs.Newf(errs.Invalid, "plan user", fmt.Sprint(id.UID), "the container has no such user").
					WithHint("choose a number that its user namespace maps: see /proc/self/uid_map in it")
			}
		}
		m.onHost(plan.OpenPeer{Root: plan.TargetRoot, User: uid, Size: m.c.Process.Size, As: peer})
	default:
		m.onHost(plan.OpenFile{Path: "/dev", What: "where the null device is", As: plan.DevMount})
		if in.Detached {
			m.onHost(plan.OpenFile{Path: "/dev/null", Write: true, What: "for what it writes", As: nullWrite})
		} else if known {
			m.onHost(plan.OwnStdio{GID: gid})
		}
	}
	if m.c.Process.OOMScore != nil {
		m.onHost(plan.OpenFile{Path: "/proc", What: "the host's processes", As: hostProc})
	}
	if f := m.in.Filter; f.Listened() {
		m.onHost(plan.MakeWay{Ours: plan.ListenerTell, Way: plan.ListenerWay}, plan.Clone{}, plan.HandOver{To: f.Listener})
		return nil
	}
	m.onHost(plan.Clone{})
	return nil
}

func (m *maker) openGroups(in ExecInput) {
	if in.V2 != "" {
		m.onHost(plan.OpenFile{Path: in.V2, What: "the control group to be in", As: groupV2})
	}
	for i, file := range in.Enter {
		m.onHost(plan.OpenFile{Path: file, Write: true, What: "the control group to enter", As: groupHandle(i)})
	}
}

// join is what the process does before it is as the container's first one.
func (m *maker) join(in ExecInput) {
	m.label()
	m.runOn(m.c.Process.Attributes.CPUs.Initial)
	for _, r := range m.c.Process.Rlimits {
		if n, ok := plan.RlimitNumber(r.Name); ok {
			m.inChild(plan.LowerLimit{Rlimit: m.early(r, n), Resource: n})
		}
	}
	// A time namespace that is there cannot be joined while memory is shared (EUSERS).
	m.shiftClocks("")
	m.enter(in)
	if m.c.Namespaces.Mount.Mode == spec.Host {
		m.inChild(plan.TakeRoot{FD: plan.TargetRoot})
	}
}

// enter joins all but the time namespace, and enters the control groups.
func (m *maker) enter(in ExecInput) {
	n := m.c.Namespaces
	var first []string
	for _, x := range []namespace{{"mount", n.Mount}, {"net", n.Net}, {"ipc", n.IPC}, {"uts", n.UTS}, {"pid", n.PID}} {
		if x.ns.Mode != spec.Host {
			first = append(first, x.name)
		}
	}
	if len(first) > 0 {
		m.inChild(plan.Enter{Namespaces: first, FD: plan.Target})
	}
	fork := plan.Fork{Orphan: in.Detached}
	if in.V2 != "" {
		fork.Dir, fork.Group = in.V2, groupV2
	}
	m.inChild(fork)
	for i, file := range in.Enter {
		m.inChild(plan.EnterGroup{Dir: path.Dir(file), FD: groupHandle(i)})
	}
	m.runOn(m.c.Process.Attributes.CPUs.Final)
	m.inChild(plan.Served(m.c.Process.Attributes)...)
	if score := m.c.Process.OOMScore; score != nil {
		m.inChild(plan.OwnOOMScore{Value: *score, Proc: hostProc})
	}
	// Whoever has entered a cgroup namespace may be kept from groups outside of it, and whoever
	// has entered a user namespace has no rights over the host's.
	var last []string
	if n.Cgroup.Mode != spec.Host {
		last = append(last, "cgroup")
	}
	if m.private() {
		last = append(last, "user")
	}
	if len(last) > 0 {
		m.inChild(plan.Enter{Namespaces: last, FD: plan.Target})
	}
	if m.private() {
		m.inChild(plan.BecomeRoot{})
	}
}

func (m *maker) runOn(cpus string) {
	if cpus != "" {
		m.inChild(plan.RunOn{CPUs: cpus})
	}
}

// keepOut changes steps of identity to what a further process wants: the keyring and its working
// directory have to be there, and one that is detached writes to the null device.
func (m *maker) keepOut(detached bool) {
	for i, s := range m.child {
		switch s := s.(type) {
		case plan.NewKeyring:
			s.Join = s.Name != ""
			m.child[i] = s
		case plan.Chdir:
			s.Exists = true
			m.child[i] = s
		case plan.Stdio:
			if detached && !s.Terminal {
				s.NoStdin, s.Out, s.Err = true, nullWrite, nullWrite
				m.child[i] = s
			}
		}
	}
}

// Helper is a program that is executed in a container's namespaces and control groups, as root of
// them and with all capabilities, while the container is being made.
type Helper struct {
	Container *spec.Container
	V2        string // its control groups, as in ExecInput
	Enter     []string
	Std       plan.Stdio
	Dir       string
	Path      string
	Args, Env []string
}

// MakeHelper decides what it takes to start one.
func MakeHelper(h Helper) plan.Plan {
	in := ExecInput{V2: h.V2, Enter: h.Enter}
	c := *h.Container
	c.Process = spec.Process{}
	m := &maker{in: Input{Container: &c}, c: &c}
	m.openGroups(in)
	m.onHost(plan.Clone{})
	m.enter(in)
	m.inChild(h.Std, plan.KeepFDs{}, plan.Umask{Mask: 0o022}, plan.Chdir{Dir: h.Dir, Exists: true},
		plan.Exec{Paths: []string{h.Path}, Args: h.Args, Env: h.Env})
	return plan.Plan{Host: m.host, Child: m.child}
}
