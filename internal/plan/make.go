package plan

import (
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Input is all that a plan depends on.
type Input struct {
	Container *spec.Container // complete: what the image says is filled in
	Root      Root
	Sources   []Source // of Container.Mounts, in the same order
	Files     []File   // more of the host, such as /etc/resolv.conf
	Made      []Made   // files made for this container, such as /etc/hosts
	Accounts  Accounts
	Groups    Groups
	Connect   []string // how it is connected to networks, in words; nil: it is not
	Filter    *Filter  // the compiled seccomp profile; nil: none
	Host      Facts

	Env    []string // of this start, over the container's
	FDs    []Handle // what the command gets as descriptors 3 and up; the launcher opens them
	Guards []Handle // what corten-init holds open besides, up to MaxGuards; see cmd/corten-init
}

// Root is how the root file system comes about: steps that open its parts, and the overlay
// of them.
type Root struct {
	Open      []Step
	Overlay   Overlay  // its Root, NoDev, Label and As are filled in by Make
	Unshifted []Handle // parts whose owners are not the container's (the host's own root)
	Binds     []File   // directories of the host platform that are file systems of their own
}

// Source is what a mount shows, after the host was asked.
type Source struct {
	Path string // absolute path on the host
	File bool   // not a directory
	Seed bool   // a volume's first use: it begins with what the image has at the target
}

// File is something of the host mounted into the container at start.
type File struct {
	Source
	Target    string
	ReadOnly  bool
	Recursive bool     // with what is mounted below
	Shift     bool     // show it with owners shifted
	Over      bool     // over the user's mounts rather than below them
	Hide      []string // paths below it
	What      string
}

// Made is a small file made for the container at each start. It lives in the memory of its
// /dev, and is gone with it.
type Made struct {
	Target  string `json:"target"`
	Content string `json:"content"`
}

// handle and name call the file by the last part of its path: "/etc/hosts" is "hosts".
func (f Made) handle() Handle { return Handle(f.name()) }
func (f Made) name() string   { return path.Base(f.Target) }

// Groups are the steps that package cgroup asks for.
type Groups struct {
	Make  MakeGroups // directories and limits, before the process exists
	V2    string     // directory to be created in, on cgroup v2
	Enter []string   // files by which the process enters the groups of cgroup v1
	Mount []MountFS  // what the container sees of its own groups
}

// Filter is a compiled seccomp profile.
type Filter struct {
	Name    string
	Flags   uint32
	Program []Instruction
}

// Facts is what is known of the host.
type Facts struct {
	Init     string // the path of corten-init
	Hidden   bool   // nobody but the host's root may read corten-init
	AppArmor bool
	SELinux  bool
	Tied     bool // the container ends with its launcher (a foreground run)
	Alone    bool // nested, and there is no other user and group than root
	Nested   bool // the launcher is root of a user namespace only, of which the container's has the ids unshifted
}

// Handles that plans use for what every container has.
const (
	RootMount Handle = "root"
	DevMount  Handle = "dev"
	Terminal  Handle = "devpts"
	InitFile  Handle = "corten-init"

	Report Handle = "report" // where corten-init writes the command's status; the launcher opens it
	Master Handle = "master" // the master of the container's terminal, as a guard

	InitGate    Handle = "gate"
	CommandGate Handle = "command's gate"
	timeOffsets Handle = "timens_offsets"
)

// MaxGuards is how many descriptors corten-init looks after.
const MaxGuards = 2

// maker collects the two lists.
type maker struct {
	in    Input
	c     *spec.Container
	owner Owner
	host  []Step
	child []Step
	warn  []string
	lower []Step // limits that are set last
}

// Make decides what starting the container takes. It asks nothing of the host: what it
// needs to know is in the input.
func Make(in Input) (Plan, error) {
	m := &maker{in: in, c: in.Container}
	if ns := m.c.Namespaces.PID; ns.Mode == spec.Path {
		return Plan{}, errs.Newf(errs.Unsupported, "plan pid namespace", ns.Path, "a container's first process cannot join a pid namespace").
			WithHint("share the host's with --pid host, or enter the other container with exec")
	}
	if len(in.Guards) > MaxGuards {
		return Plan{}, errs.Newf(errs.Internal, "plan guards", "", "corten-init looks after two at most")
	}
	if m.private() {
		m.owner = Owner{hostID(m.c.Namespaces.User.UIDMap), hostID(m.c.Namespaces.User.GIDMap)}
	}
	id, err := in.Accounts.Resolve(m.c.Process.User, m.c.Process.Groups)
	if err != nil {
		return Plan{}, err
	}
	m.openAll()
	m.clone()
	if err := m.attend(id); err != nil {
		return Plan{}, err
	}
	m.begin()
	if err := m.view(); err != nil {
		return Plan{}, err
	}
	if err := m.identity(id); err != nil {
		return Plan{}, err
	}
	return Plan{Host: m.host, Child: m.child, Warnings: m.warn}, nil
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

func (m *maker) onHost(s ...Step)  { m.host = append(m.host, s...) }
func (m *maker) inChild(s ...Step) { m.child = append(m.child, s...) }

// openAll opens what does not need the new namespaces.
func (m *maker) openAll() {
	if len(m.in.Groups.Make.Dirs) > 0 {
		m.onHost(m.in.Groups.Make)
	}
	for i, d := range m.in.Groups.Enter {
		m.onHost(OpenFile{Path: d, Write: true, What: "the control group to enter", As: groupHandle(i)})
	}
	m.onHost(m.in.Root.Open...)
	for _, p := range m.namespaces() {
		if p.ns.Mode == spec.Path {
			m.onHost(OpenFile{Path: p.ns.Path, What: "the " + p.name + " namespace to join", As: Handle("ns:" + p.name)})
		}
	}
	if !m.c.Life.NoInit {
		m.onHost(OpenFile{Path: m.in.Host.Init, Exec: true, What: "the program that will be PID 1", As: InitFile})
		if m.gated() {
			m.onHost(MakeGate{InitGate, CommandGate})
		}
	}
}

func groupHandle(i int) Handle { return Handle("cgroup" + strconv.Itoa(i)) }

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
	c := Clone{Namespaces: names, Group: m.in.Groups.V2}
	if m.private() {
		c.Join = m.joined()
	}
	m.onHost(c)
}

// joined is the namespaces that are there already.
func (m *maker) joined() (list []Join) {
	for _, n := range m.namespaces() {
		if n.ns.Mode == spec.Path {
			list = append(list, Join{Namespace: n.name, FD: Handle("ns:" + n.name), Path: n.ns.Path})
		}
	}
	return list
}

// attend is what the host side does while the process waits.
func (m *maker) attend(id Identity) error {
	if len(m.in.Connect) > 0 {
		m.onHost(Connect{m.in.Connect})
	}
	if m.private() {
		m.onHost(MapIDs{m.c.Namespaces.User.UIDMap, m.c.Namespaces.User.GIDMap})
	}
	overlay := m.in.Root.Overlay
	overlay.Root, overlay.As, overlay.Label = m.owner, RootMount, m.c.Security.SELinuxMount
	overlay.NoDev = m.private()
	if m.shifted() {
		for _, h := range overlay.uses() {
			if !contains(m.in.Root.Unshifted, h) {
				m.onHost(IDMap{Mount: h, What: string(h)})
			}
		}
	}
	m.onHost(overlay)
	m.makeDev()
	for _, f := range m.made() {
		m.onHost(MakeFile{In: DevMount, Name: f.name(), Content: f.Content, Root: m.owner, As: f.handle()})
	}
	if err := m.openMounts(); err != nil {
		return err
	}
	if m.c.Process.OOMScore != nil {
		m.onHost(OOMScore{*m.c.Process.OOMScore})
	}
	if err := m.limits(); err != nil {
		return err
	}
	if len(m.c.Namespaces.TimeOffset) > 0 {
		m.onHost(OpenProc{Name: "timens_offsets", As: timeOffsets})
	}
	if !m.c.Process.Terminal {
		if gid, ok := m.hostGroup(id); ok {
			m.onHost(OwnStdio{gid})
		}
	}
	if len(m.in.Connect) > 0 {
		m.onHost(Connected{})
	}
	m.onHost(Release{})
	return nil
}

// roomForFDs is how many descriptors the steps up to the exec may need.
const roomForFDs = 1024

// limits sets the resource limits from outside, since the host's root may raise what the
// container's root may not. A low limit on descriptors waits until the last step.
func (m *maker) limits() error {
	for _, r := range m.c.Process.Rlimits {
		n, ok := RlimitNumber(r.Name)
		if !ok {
			return errs.Newf(errs.Invalid, "plan limit", r.Name, "no such resource limit").
				WithHint("setrlimit(2) lists them; write nofile, not RLIMIT_NOFILE")
		}
		m.onHost(Limit{m.early(r, n), n})
	}
	return nil
}

// early is what a limit is at first; the rest is left for lower.
func (m *maker) early(r spec.Rlimit, n int) spec.Rlimit {
	if r.Name != "nofile" || r.Soft >= roomForFDs {
		return r
	}
	m.lower = append(m.lower, LowerLimit{r, n})
	r.Soft, r.Hard = roomForFDs, max(r.Hard, roomForFDs)
	return r
}

// hostGroup is the group of the container's user as the host numbers it.
func (m *maker) hostGroup(id Identity) (uint32, bool) {
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
	m.inChild(Await{})
	for i, d := range m.in.Groups.Enter {
		m.inChild(EnterGroup{Dir: path.Dir(d), FD: groupHandle(i)})
	}
	m.label()
	if !m.private() {
		for _, j := range m.joined() {
			m.inChild(j)
		}
	}
	if fresh(m.c.Namespaces.Cgroup) {
		m.inChild(Unshare{"cgroup"})
	}
	if m.private() {
		m.inChild(BecomeRoot{})
	}
	m.shiftClocks(timeOffsets)
	if fresh(m.c.Namespaces.Net) {
		m.inChild(LoopbackUp{})
	}
	if fresh(m.c.Namespaces.UTS) {
		m.inChild(Hostname{m.c.Namespaces.Hostname})
		if m.c.Namespaces.Domainname != "" {
			m.inChild(Domainname{m.c.Namespaces.Domainname})
		}
	}
}

// shiftClocks makes a time namespace if the container has one, through the open
// timens_offsets of the process or, without that, by its name.
func (m *maker) shiftClocks(fd Handle) {
	offsets := m.c.Namespaces.TimeOffset
	if len(offsets) == 0 {
		return
	}
	m.inChild(Unshare{"time"})
	for _, clock := range []string{"monotonic", "boottime"} {
		if v, ok := offsets[clock]; ok {
			m.inChild(TimeOffset{clock, v, fd})
		}
	}
}

// label chooses the label of the exec while /proc is still the host's: that of the
// container could be hidden below a volume with a file in the label's place.
func (m *maker) label() {
	sec := m.c.Security
	if m.in.Host.SELinux && sec.SELinux != "" {
		m.inChild(Label{"selinux", sec.SELinux})
	}
	if m.in.Host.AppArmor && sec.AppArmor != "" && sec.AppArmor != "unconfined" {
		m.inChild(Label{"apparmor", sec.AppArmor})
	}
}

// identity is what the process does last: it gives up what it does not need.
func (m *maker) identity(id Identity) error {
	sec, proc := m.c.Security, m.c.Process
	m.inChild(NewKeyring{}, Stdio{Terminal: proc.Terminal, NoStdin: !proc.Stdin && !proc.Terminal})
	m.inChild(m.keep())
	if proc.Umask != nil {
		m.inChild(Umask{*proc.Umask})
	} else {
		m.inChild(Umask{0o022})
	}
	m.inChild(Chdir{Dir: proc.Cwd})
	m.inChild(DropBounding{sortCaps(sec.Capabilities)})
	// Without no-new-privileges a filter may be installed only with CAP_SYS_ADMIN.
	if sec.AllowNewPrivs {
		m.filter()
	}
	if m.in.Host.Alone && len(id.Groups) > 0 && !slices.Equal(id.Groups, []uint32{id.GID}) {
		return errs.Newf(errs.Unsupported, "plan groups", "", "an ordinary user without sub-ids cannot have others than his own").
			WithHint("give the user sub-ids (corten doctor says how), or a user that is in no other group")
	}
	user := SetUser{id.UID, id.GID, id.Groups, m.in.Host.Alone}
	switch {
	case sec.Sets != nil:
		m.inChild(KeepCaps{}, user, HoldCaps{*sec.Sets})
	case id.UID == 0:
		m.inChild(user, SetCaps{sortCaps(sec.Capabilities)})
	default:
		m.inChild(user, SetCaps{}) // what is inheritable outlives the change of user
	}
	if m.in.Host.Tied {
		m.inChild(DieWithParent{})
	}
	m.inChild(m.lower...)
	if !sec.AllowNewPrivs {
		m.inChild(NoNewPrivs{})
		m.filter()
	}
	return m.exec(id)
}

// keep is the descriptors that are left.
func (m *maker) keep() KeepFDs {
	k := KeepFDs{FDs: m.in.FDs}
	if m.c.Life.NoInit {
		return k
	}
	k.Report, k.Guards, k.Exec = Report, m.in.Guards, InitFile
	if m.gated() {
		k.Gate, k.Wait = InitGate, CommandGate
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
		m.inChild(Seccomp{f.Name, f.Flags, f.Program})
	}
}

func (m *maker) exec(id Identity) error {
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
		m.inChild(Init{FD: InitFile, Args: []string{name}, Gated: m.gated()})
	}
	m.inChild(Exec{Paths: Lookup(args[0], env), Args: args, Env: env})
	return nil
}

// DefaultPath is the PATH of a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what Docker gives a process: defaults first, then what the image and the
// user set, HOME from the account unless it is set.
func environment(c *spec.Container, id Identity) []string {
	var env []string
	add := func(name, value string) {
		for _, e := range c.Process.Env {
			if strings.HasPrefix(e, name+"=") {
				return
			}
		}
		env = append(env, name+"="+value)
	}
	add("PATH", DefaultPath)
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

// Lookup is the files that a command name may mean, in the order of PATH.
func Lookup(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	dirs := DefaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	var out []string
	for _, d := range strings.Split(dirs, ":") {
		if d == "" {
			d = "."
		}
		out = append(out, path.Join(d, name))
	}
	return out
}

func contains(list []Handle, h Handle) bool {
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
