package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// ExecInput is all that a further process of a container depends on.
type ExecInput struct {
	Container  *spec.Container // as it was started
	Process    spec.Process    // what to execute; its Env comes over the container's
	Accounts   Accounts        // of the container as it is now
	V2         string          // the container's directory on cgroup v2; empty: none
	Enter      []string        // the files "tasks" of its groups of cgroup v1
	Filter     *Filter
	Host       Facts
	Privileged bool // hold every capability of the container's user namespace
	Detached   bool // belongs to the container's PID 1, and writes nowhere

	FDs []Handle // what it gets as descriptors 3 and up; the launcher opens them
}

// Handles that whoever executes the plan of a further process opens.
const (
	Target     Handle = "container"      // pidfd of the container's first process
	TargetRoot Handle = "container root" // its root directory; for a terminal only
)

// Handles of the plan itself.
const (
	groupV2   Handle = "cgroup"
	hostProc  Handle = "proc of the host"
	peer      Handle = "terminal"
	nullWrite Handle = "null"
)

// Steps that only further processes take.
type (
	// Enter joins namespaces that the container has for itself (setns(2) by pidfd, Linux 5.8).
	Enter struct {
		Namespaces []string `json:"namespaces"`
		FD         Handle   `json:"fd"`
	}

	// Fork goes on as another process: nobody can enter a pid namespace himself, only what he
	// then makes is in it. The process before stays as it is until the new one has executed its
	// program, so that the kernel knows them for one (vfork(2)), and then ends.
	Fork struct {
		Dir    string `json:"dir,omitempty"`    // the cgroup v2 directory to be born in (Linux 5.7)
		Group  Handle `json:"group,omitempty"`  // that directory, open
		Orphan bool   `json:"orphan,omitempty"` // its parent is in the container, so that PID 1 there inherits it
	}

	// OpenPeer opens a new terminal in the container's devpts, for User of the host. The
	// launcher keeps its master.
	OpenPeer struct {
		Root Handle     `json:"root"`
		User uint32     `json:"user"`
		Size *spec.Size `json:"size,omitempty"`
		As   Handle     `json:"as"`
	}
)

func (Enter) Kind() string    { return "enter" }
func (Fork) Kind() string     { return "fork" }
func (OpenPeer) Kind() string { return "open-peer" }

func (s Enter) String() string {
	return "join the container's namespaces: " + strings.Join(s.Namespaces, ", ")
}

func (s Fork) String() string {
	words := "go on as another process"
	if s.Orphan {
		words += ", whose parent is in the container"
	}
	if s.Dir != "" {
		words += ", in the control group " + s.Dir
	}
	return words
}

func (s OpenPeer) String() string {
	return fmt.Sprintf("open a terminal in the container's devpts, for user %d", s.User)
}

func (s Enter) uses() []Handle     { return []Handle{s.FD} }
func (s Fork) uses() []Handle      { return []Handle{s.Group} }
func (s OpenPeer) uses() []Handle  { return []Handle{s.Root} }
func (s OpenPeer) opens() []Handle { return []Handle{s.As} }

// MakeExec decides what it takes to start one more process in a container that runs: the
// identity, the limits and the filter of the first one. Like Make it asks nothing of the host.
//
// Up to Fork the process is in the host's pid namespace, where the container cannot see it.
// The next one is born with the container's files and network, and soon has its users.
func MakeExec(in ExecInput) (Plan, error) {
	if len(in.Process.Args) == 0 || in.Process.Args[0] == "" {
		return Plan{}, errs.Newf(errs.Invalid, "plan command", "", "no command given").
			WithHint("write the command after the container: corten exec CONTAINER COMMAND")
	}
	c := *in.Container
	c.Process = processOf(in)
	c.Life.NoInit = true
	if in.Privileged {
		c.Security.Capabilities = AllCaps()
	}
	m := &maker{in: Input{Container: &c, Accounts: in.Accounts, Filter: in.Filter, Host: in.Host, FDs: in.FDs}, c: &c}
	m.in.Host.Tied = false
	id, err := in.Accounts.Resolve(c.Process.User, c.Process.Groups)
	if err != nil {
		return Plan{}, err
	}
	if err := m.openForExec(in, id); err != nil {
		return Plan{}, err
	}
	m.join(in)
	if err := m.identity(id); err != nil {
		return Plan{}, err
	}
	m.keepOut(in.Detached)
	return Plan{Host: m.host, Child: m.child}, nil
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
func (m *maker) openForExec(in ExecInput, id Identity) error {
	if in.V2 != "" {
		m.onHost(OpenFile{Path: in.V2, What: "the control group to be in", As: groupV2})
	}
	for i, file := range in.Enter {
		m.onHost(OpenFile{Path: file, Write: true, What: "the control group to enter", As: groupHandle(i)})
	}
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
		m.onHost(OpenPeer{Root: TargetRoot, User: uid, Size: m.c.Process.Size, As: peer})
	default:
		m.onHost(OpenFile{Path: "/dev", What: "where the null device is", As: DevMount})
		if in.Detached {
			m.onHost(OpenFile{Path: "/dev/null", Write: true, What: "for what it writes", As: nullWrite})
		} else if known {
			m.onHost(OwnStdio{gid})
		}
	}
	if m.c.Process.OOMScore != nil {
		m.onHost(OpenFile{Path: "/proc", What: "the host's processes", As: hostProc})
	}
	m.onHost(Clone{})
	return nil
}

// join is what the process does before it is as the container's first one.
func (m *maker) join(in ExecInput) {
	m.label()
	for _, r := range m.c.Process.Rlimits {
		if n, ok := RlimitNumber(r.Name); ok {
			m.inChild(LowerLimit{m.early(r, n), n})
		}
	}
	// A time namespace that is there cannot be joined while memory is shared (EUSERS).
	m.shiftClocks("")
	n := m.c.Namespaces
	first := []string{"mount"}
	for _, x := range []namespace{{"net", n.Net}, {"ipc", n.IPC}, {"uts", n.UTS}, {"pid", n.PID}} {
		if x.ns.Mode != spec.Host {
			first = append(first, x.name)
		}
	}
	m.inChild(Enter{Namespaces: first, FD: Target})
	fork := Fork{Orphan: in.Detached}
	if in.V2 != "" {
		fork.Dir, fork.Group = in.V2, groupV2
	}
	m.inChild(fork)
	for i, file := range in.Enter {
		m.inChild(EnterGroup{Dir: path.Dir(file), FD: groupHandle(i)})
	}
	if score := m.c.Process.OOMScore; score != nil {
		m.inChild(OwnOOMScore{*score, hostProc})
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
		m.inChild(Enter{Namespaces: last, FD: Target})
	}
	if m.private() {
		m.inChild(BecomeRoot{})
	}
}

// keepOut changes steps of identity to what a further process wants: its working directory
// has to be there, and one that is detached writes to the null device.
func (m *maker) keepOut(detached bool) {
	for i, s := range m.child {
		switch s := s.(type) {
		case Chdir:
			s.Exists = true
			m.child[i] = s
		case Stdio:
			if detached && !s.Terminal {
				s.NoStdin, s.Out, s.Err = true, nullWrite, nullWrite
				m.child[i] = s
			}
		}
	}
}
