// Package decide decides what starting a container asks of the kernel: Make is a pure function from
// a description, the steps that make the root and the facts of the host to a plan.
package decide

import (
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Input is all that a plan depends on.
type Input struct {
	Container *spec.Container // complete: what the image says is filled in
	Root      plan.Root
	Sources   []plan.Source // of Container.Mounts, in the same order
	Files     []plan.File   // more of the host, such as /etc/resolv.conf
	Made      []plan.Made   // files made for this container, such as /etc/hosts
	Accounts  plan.Accounts
	Groups    plan.Groups
	Connect   []string     // how it is connected to networks, in words; nil: it is not
	Filter    *plan.Filter // the compiled seccomp profile; nil: none
	Host      plan.Facts

	Env    []string      // of this start, over the container's
	FDs    []plan.Handle // what the command gets as descriptors 3 and up; the launcher opens them
	Guards []plan.Handle // what corten-init holds open besides, up to MaxGuards; see cmd/corten-init
}

// timeOffsets is the file of the process by which it shifts its clocks.
const timeOffsets plan.Handle = "timens_offsets"

// maker collects the two lists.
type maker struct {
	in    Input
	c     *spec.Container
	owner plan.Owner
	host  []plan.Step
	child []plan.Step
	warn  []string
	lower []plan.Step // limits that are set last
}

// Make decides what starting the container takes. It asks nothing of the host: what it
// needs to know is in the input.
func Make(in Input) (plan.Plan, error) {
	m := &maker{in: in, c: in.Container}
	if ns := m.c.Namespaces.PID; ns.Mode == spec.Path {
		return plan.Plan{}, errs.Newf(errs.Unsupported, "plan pid namespace", ns.Path, "a container's first process cannot join a pid namespace").
			WithHint("share the host's with --pid host, or enter the other container with exec")
	}
	if len(in.Guards) > plan.MaxGuards {
		return plan.Plan{}, errs.Newf(errs.Internal, "plan guards", "", "corten-init looks after two at most")
	}
	if m.private() {
		m.owner = plan.Owner{UID: hostID(m.c.Namespaces.User.UIDMap), GID: hostID(m.c.Namespaces.User.GIDMap)}
	}
	id, err := in.Accounts.Resolve(m.c.Process.User, m.c.Process.Groups)
	if err != nil {
		return plan.Plan{}, err
	}
	m.openAll()
	m.clone()
	if err := m.attend(id); err != nil {
		return plan.Plan{}, err
	}
	m.begin()
	if err := m.view(); err != nil {
		return plan.Plan{}, err
	}
	if err := m.identity(id); err != nil {
		return plan.Plan{}, err
	}
	plan.LabelFiles(m.host, m.c.Security.SELinuxMount, m.private())
	plan.LabelFiles(m.child, m.c.Security.SELinuxMount, m.private())
	return plan.Plan{Host: m.host, Child: m.child, Warnings: m.warn}, nil
}

// hostID is the host's id for the container's 0.
func hostID(maps []spec.IDMap) uint32 {
	for _, m := range maps {
		if m.Container == 0 {
			return m.Host
		}
	}
	return 0
}

// private reports whether the container has a user namespace.
func (m *maker) private() bool { return m.c.Namespaces.User.Mode != spec.UserHost }

// shifted reports whether owners have to be shown other than they are stored.
func (m *maker) shifted() bool { return m.private() && !m.in.Host.Nested }

func (m *maker) onHost(s ...plan.Step)  { m.host = append(m.host, s...) }
func (m *maker) inChild(s ...plan.Step) { m.child = append(m.child, s...) }

// openAll opens what does not need the new namespaces.
func (m *maker) openAll() {
	if len(m.in.Groups.Make.Dirs) > 0 {
		m.onHost(m.in.Groups.Make)
	}
	for i, d := range m.in.Groups.Enter {
		m.onHost(plan.OpenFile{Path: d, Write: true, What: "the control group to enter", As: groupHandle(i)})
	}
	m.onHost(m.in.Root.Open...)
	for _, p := range m.namespaces() {
		if p.ns.Mode == spec.Path {
			m.onHost(plan.OpenFile{Path: p.ns.Path, What: "the " + p.name + " namespace to join", As: plan.Handle("ns:" + p.name)})
		}
	}
	if !m.c.Life.NoInit {
		m.onHost(plan.OpenFile{Path: m.in.Host.Init, Exec: true, What: "the program that will be PID 1", As: plan.InitFile})
		if m.gated() {
			m.onHost(plan.MakeGate{Init: plan.InitGate, Command: plan.CommandGate})
		}
	}
}

func groupHandle(i int) plan.Handle { return plan.Handle("cgroup" + strconv.Itoa(i)) }

// namespace is a namespace of the container with its name in the kernel's terms.
type namespace struct {
	name string
	ns   spec.Namespace
}

func (m *maker) namespaces() []namespace {
	n := m.c.Namespaces
	return []namespace{{"net", n.Net}, {"ipc", n.IPC}, {"uts", n.UTS}, {"pid", n.PID}, {"cgroup", n.Cgroup}}
}

// fresh reports whether the container gets a new namespace of this kind.
func fresh(ns spec.Namespace) bool {
	return ns.Mode == spec.Private || ns.Mode == spec.Shareable || ns.Mode == spec.None
}

func (m *maker) clone() {
	var names []string
	if m.private() {
		names = append(names, "user")
	}
	names = append(names, "mount")
	for _, n := range m.namespaces() {
		// A cgroup namespace is made once the group is entered: it shows what is below.
		if fresh(n.ns) && n.name != "cgroup" {
			names = append(names, n.name)
		}
	}
	c := plan.Clone{Namespaces: names, Group: m.in.Groups.V2}
	if m.private() {
		c.Join = m.joined()
	}
	m.onHost(c)
}

// joined is the namespaces that are there already.
func (m *maker) joined() (list []plan.Join) {
	for _, n := range m.namespaces() {
		if n.ns.Mode == spec.Path {
			list = append(list, plan.Join{Namespace: n.name, FD: plan.Handle("ns:" + n.name), Path: n.ns.Path})
		}
	}
	return list
}

// attend is what the host side does while the process waits.
func (m *maker) attend(id plan.Identity) error {
	if len(m.in.Connect) > 0 {
		m.onHost(plan.Connect{Words: m.in.Connect})
	}
	if m.private() {
		m.onHost(plan.MapIDs{UID: m.c.Namespaces.User.UIDMap, GID: m.c.Namespaces.User.GIDMap})
	}
	overlay := m.in.Root.Overlay
	overlay.Root, overlay.As = m.owner, plan.RootMount
	overlay.NoDev = m.private()
	if m.shifted() {
		for _, h := range overlay.Parts() {
			if !contains(m.in.Root.Unshifted, h) {
				m.onHost(plan.IDMap{Mount: h, What: string(h)})
			}
		}
	}
	m.onHost(overlay)
	m.makeDev()
	for _, f := range m.made() {
		m.onHost(plan.MakeFile{In: plan.DevMount, Name: madeName(f), Content: f.Content, Root: m.owner, As: madeHandle(f)})
	}
	if err := m.openMounts(); err != nil {
		return err
	}
	if m.c.Process.OOMScore != nil {
		m.onHost(plan.OOMScore{Value: *m.c.Process.OOMScore})
	}
	if err := m.limits(); err != nil {
		return err
	}
	if len(m.c.Namespaces.TimeOffset) > 0 {
		m.onHost(plan.OpenProc{Name: "timens_offsets", As: timeOffsets})
	}
	if !m.c.Process.Terminal {
		if gid, ok := m.hostGroup(id); ok {
			m.onHost(plan.OwnStdio{GID: gid})
		}
	}
	if len(m.in.Connect) > 0 {
		m.onHost(plan.Connected{})
	}
	m.onHost(plan.Release{})
	return nil
}

// roomForFDs is how many descriptors the steps up to the exec may need: some for each thing in the
// container's view.
func (m *maker) roomForFDs() uint64 {
	things := len(m.c.Mounts) + len(m.c.Devices) + len(m.c.Security.Masked) + len(m.c.Security.ReadOnlyPaths)
	return uint64(max(1024, 256+6*things))
}

// limits sets the resource limits from outside, since the host's root may raise what the
// container's root may not. A low limit on descriptors waits until the last step.
func (m *maker) limits() error {
	for _, r := range m.c.Process.Rlimits {
		n, ok := plan.RlimitNumber(r.Name)
		if !ok {
			return errs.Newf(errs.Invalid, "plan limit", r.Name, "no such resource limit").
				WithHint("setrlimit(2) lists them; write nofile, not RLIMIT_NOFILE")
		}
		m.onHost(plan.Limit{Rlimit: m.early(r, n), Resource: n})
	}
	return nil
}

// early is what a limit is at first; the rest is left for lower.
func (m *maker) early(r spec.Rlimit, n int) spec.Rlimit {
	room := m.roomForFDs()
	if r.Name != "nofile" || r.Soft >= room {
		return r
	}
	m.lower = append(m.lower, plan.LowerLimit{Rlimit: r, Resource: n})
	r.Soft, r.Hard = room, max(r.Hard, room)
	return r
}

// hostGroup is the group of the container's user as the host numbers it.
func (m *maker) hostGroup(id plan.Identity) (uint32, bool) {
	if !m.private() {
		return id.GID, true
	}
	return shift(m.c.Namespaces.User.GIDMap, id.GID)
}

func shift(maps []spec.IDMap, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), true
		}
	}
	return 0, false
}

// begin is what the process does first.
func (m *maker) begin() {
	m.inChild(plan.Await{})
	for i, d := range m.in.Groups.Enter {
		m.inChild(plan.EnterGroup{Dir: path.Dir(d), FD: groupHandle(i)})
	}
	m.label()
	if !m.private() {
		for _, j := range m.joined() {
			m.inChild(j)
		}
	}
	if fresh(m.c.Namespaces.Cgroup) {
		m.inChild(plan.Unshare{Namespace: "cgroup"})
	}
	if m.private() {
		m.inChild(plan.BecomeRoot{})
	}
	m.shiftClocks(timeOffsets)
	if fresh(m.c.Namespaces.Net) {
		m.inChild(plan.LoopbackUp{})
	}
	if fresh(m.c.Namespaces.UTS) {
		m.inChild(plan.Hostname{Name: m.c.Namespaces.Hostname})
		if m.c.Namespaces.Domainname != "" {
			m.inChild(plan.Domainname{Name: m.c.Namespaces.Domainname})
		}
	}
}

// shiftClocks makes a time namespace if the container has one, through the open
// timens_offsets of the process or, without that, by its name.
func (m *maker) shiftClocks(fd plan.Handle) {
	offsets := m.c.Namespaces.TimeOffset
	if len(offsets) == 0 {
		return
	}
	m.inChild(plan.Unshare{Namespace: "time"})
	for _, clock := range []string{"monotonic", "boottime"} {
		if v, ok := offsets[clock]; ok {
			m.inChild(plan.TimeOffset{Clock: clock, Nanos: v, FD: fd})
		}
	}
}

// label chooses the label of the exec while /proc is still the host's: that of the
// container could be hidden below a volume with a file in the label's place.
func (m *maker) label() {
	sec := m.c.Security
	if m.in.Host.SELinux && sec.SELinux != "" {
		m.inChild(plan.Label{Module: "selinux", Label: sec.SELinux})
	}
	switch {
	case sec.AppArmor == "" && m.c.Root.Path == "":
		m.inChild(plan.Label{Module: "apparmor", Label: spec.DefaultProfile, Usual: true})
	case m.in.Host.AppArmor && sec.AppArmor != "" && sec.AppArmor != spec.NoProfile:
		m.inChild(plan.Label{Module: "apparmor", Label: sec.AppArmor})
	}
}

// identity is what the process does last: it gives up what it does not need.
func (m *maker) identity(id plan.Identity) error {
	sec, proc := m.c.Security, m.c.Process
	m.keyring()
	m.inChild(plan.Seen(proc.Attributes)...)
	m.inChild(plan.Stdio{Terminal: proc.Terminal, NoStdin: !proc.Stdin && !proc.Terminal})
	m.inChild(m.keep())
	if proc.Umask != nil {
		m.inChild(plan.Umask{Mask: *proc.Umask})
	} else {
		m.inChild(plan.Umask{Mask: 0o022})
	}
	m.inChild(plan.Chdir{Dir: proc.Cwd})
	m.inChild(plan.DropBounding{Keep: sortCaps(sec.Capabilities)})
	// Without no-new-privileges a filter may be installed only with CAP_SYS_ADMIN.
	if sec.AllowNewPrivs {
		m.filter()
	}
	if m.in.Host.Alone && len(id.Groups) > 0 && !slices.Equal(id.Groups, []uint32{id.GID}) {
		return errs.Newf(errs.Unsupported, "plan groups", "", "an ordinary user without sub-ids cannot have others than his own").
			WithHint("give the user sub-ids (corten doctor says how), or a user that is in no other group")
	}
	user := plan.SetUser{UID: id.UID, GID: id.GID, Groups: id.Groups, Keep: m.in.Host.Alone}
	switch {
	case sec.Sets != nil:
		m.inChild(plan.KeepCaps{}, user, plan.HoldCaps{CapSets: *sec.Sets})
	case id.UID == 0:
		m.inChild(user, plan.SetCaps{Caps: sortCaps(sec.Capabilities)})
	default:
		m.inChild(user, plan.SetCaps{}) // what is inheritable outlives the change of user
	}
	if m.in.Host.Tied {
		m.inChild(plan.DieWithParent{})
	}
	m.inChild(m.lower...)
	if !sec.AllowNewPrivs {
		m.inChild(plan.NoNewPrivs{})
		m.filter()
	}
	return m.exec(id)
}

// keyring takes a session keyring. That of a container of a bundle has a name, by which further
// processes join it. Whoever is the same user may have one of this name, which would be joined instead:
// so it has the time in it.
func (m *maker) keyring() {
	name := ""
	if m.c.Root.Path != "" {
		name = "_ses." + string(m.c.ID) + "." + strconv.FormatInt(m.c.Created.UnixNano(), 36)
	}
	if !m.c.Security.NoKeyring {
		m.inChild(plan.NewKeyring{Name: name})
	}
}

// keep is the descriptors that are left.
func (m *maker) keep() plan.KeepFDs {
	k := plan.KeepFDs{FDs: m.in.FDs}
	if m.c.Life.NoInit {
		if m.in.Filter.Listened() {
			k.Held = []plan.Handle{plan.ListenerWay}
		}
		return k
	}
	k.Report, k.Guards, k.Exec = plan.Report, m.in.Guards, plan.InitFile
	if m.gated() {
		k.Gate, k.Wait = plan.InitGate, plan.CommandGate
	}
	return k
}

// gated reports whether the command could trace or open PID 1 before that has made itself
// undumpable: the kernel does it at the exec of a program that the process may not read, and
// of which no capability in its user namespace makes it the master (would_dump and
// bprm->mm->user_ns, fs/exec.c). And PID 1 knows the command as process 2 only in a pid
// namespace of its own.
func (m *maker) gated() bool {
	u := m.c.Namespaces.User
	return !m.in.Host.Hidden || !m.private() || maps(u.UIDMap, 0) || maps(u.GIDMap, 0) || !fresh(m.c.Namespaces.PID)
}

// maps reports whether an id of the host is in a map.
func maps(list []spec.IDMap, host uint32) bool {
	for _, m := range list {
		if host >= m.Host && host-m.Host < m.Size {
			return true
		}
	}
	return false
}

func (m *maker) filter() {
	if f := m.in.Filter; f != nil {
		m.inChild(f.Step())
	}
}

func (m *maker) exec(id plan.Identity) error {
	args, env := m.c.Process.Args, m.c.Process.Env
	if m.c.Root.Path == "" {
		env = environment(m.c, id)
	}
	if len(m.in.Env) > 0 {
		env = spec.MergeEnv(env, m.in.Env)
	}
	if len(args) == 0 || args[0] == "" {
		return errs.Newf(errs.Invalid, "plan command", "", "no command given, and the image names none").
			WithHint("write the command after the image: corten run IMAGE COMMAND")
	}
	if !m.c.Life.NoInit {
		name := "corten-init"
		if n := len(m.in.FDs); n > 0 {
			name += ":" + strconv.Itoa(n)
		}
		m.inChild(plan.Init{FD: plan.InitFile, Args: []string{name}, Gated: m.gated()})
	}
	m.inChild(plan.Exec{Paths: plan.Lookup(args[0], env), Args: args, Env: env})
	return nil
}

// environment is what Docker gives a process: defaults first, then what the image and the
// user set, HOME from the account unless it is set.
func environment(c *spec.Container, id plan.Identity) []string {
	var env []string
	add := func(name, value string) {
		for _, e := range c.Process.Env {
			if strings.HasPrefix(e, name+"=") {
				return
			}
		}
		env = append(env, name+"="+value)
	}
	add("PATH", plan.DefaultPath)
	if c.Namespaces.Hostname != "" {
		add("HOSTNAME", c.Namespaces.Hostname)
	}
	if c.Process.Terminal {
		add("TERM", "xterm")
	}
	add("HOME", id.Home)
	if c.IsSystemd() { // https://systemd.io/CONTAINER_INTERFACE
		add("container", "corten")
		add("container_uuid", string(c.ID[:min(32, len(c.ID))]))
	}
	return append(env, c.Process.Env...)
}

func contains(list []plan.Handle, h plan.Handle) bool {
	for _, x := range list {
		if x == h {
			return true
		}
	}
	return false
}

// byDepth orders targets so that a mount comes after the ones it lies below.
func byDepth(targets []int, target func(int) string) {
	sort.SliceStable(targets, func(a, b int) bool {
		return strings.Count(path.Clean(target(targets[a])), "/") < strings.Count(path.Clean(target(targets[b])), "/")
	})
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// sortCaps orders names by number, for plans that read the same however flags were given.
func sortCaps(names []string) []string {
	out := append([]string(nil), names...)
	sort.Slice(out, func(i, j int) bool {
		a, _ := plan.CapNumber(out[i])
		b, _ := plan.CapNumber(out[j])
		return a < b
	})
	return out
}
