// Package bundled plans containers that are described as OCI bundles are: every mount is said, in its
// order, where decide.Make has a view of its own for what containers see. The process then waits
// (plan.Hold) until it is told to execute its command.
package bundled

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// Input is all that a plan depends on.
type Input struct {
	Container *spec.Container // with Root.Path; of a process in numbers
	Sources   []plan.Source   // of Container.Mounts, in the same order; empty for what is no bind mount
	Groups    plan.Groups     // its Mount is what a mount of type cgroup shows, with targets below that
	Binds     []plan.File     // and what of the host's, instead
	Filter    *plan.Filter
	Host      plan.Facts
	FDs       []plan.Handle // what the command gets as descriptors 3 and up; the launcher opens them
	Hooks     []string      // programs to be run when all is mounted, in words; nil: none
	Inside    []string      // and after these, in the namespaces of the container
	NoPivot   bool          // the root is changed without pivot_root(2)
}

// bundler collects the two lists.
type bundler struct {
	decide.Parts
	c     *spec.Container
	in    Input
	host  []plan.Step
	child []plan.Step
	seal  []plan.Step

	shifts  []plan.Step // of mounts, once the users are mapped
	sources []plan.Step // of mounts that the process clones
}

func (b *bundler) onHost(s ...plan.Step)  { b.host = append(b.host, s...) }
func (b *bundler) inChild(s ...plan.Step) { b.child = append(b.child, s...) }

// Make decides what starting the container takes. It asks nothing of the host.
func Make(in Input) (plan.Plan, error) {
	c := in.Container
	b := &bundler{Parts: decide.PartsOf(c, in.Filter, in.Host), c: c, in: in}
	id, err := plan.Accounts{}.Resolve(c.Process.User, c.Process.Groups)
	if err != nil {
		return plan.Plan{}, err
	}
	if len(c.Process.Args) == 0 || c.Process.Args[0] == "" {
		return plan.Plan{}, errs.Newf(errs.Invalid, "plan command", "", "no command given").WithHint("fill in process.args of config.json")
	}
	if in.Host.Alone && len(id.Groups) > 0 && !slices.Equal(id.Groups, []uint32{id.GID}) {
		return plan.Plan{}, errs.Newf(errs.Unsupported, "plan groups", "", "who may not set groups cannot have others than his own (user_namespaces(7), \"deny\")").
			WithHint("leave process.user.additionalGids out")
	}
	limits, last, err := b.Limits()
	if err != nil {
		return plan.Plan{}, err
	}
	clocks, shift := b.Clocks()
	b.open()
	b.begin(shift)
	if err := b.view(); err != nil {
		return plan.Plan{}, err
	}
	more := append(clocks, limits...)
	switch uid, ok := b.HostUser(id.UID); {
	case c.Process.Terminal:
	case b.guest():
		more = append(more, GiveStdio{UID: id.UID, Inside: true})
	case ok:
		more = append(more, GiveStdio{UID: uid})
	}
	b.attend(more)
	b.identity(id, last)
	plan.LabelFiles(b.host, c.Security.SELinuxMount, b.Private())
	plan.LabelFiles(b.child, c.Security.SELinuxMount, b.Private())
	return plan.Plan{Host: b.host, Child: b.child}, nil
}

// open opens what does not need the new process.
func (b *bundler) open() {
	if len(b.in.Groups.Make.Dirs) > 0 {
		b.onHost(b.in.Groups.Make)
	}
	for i, d := range b.in.Groups.Enter {
		b.onHost(plan.OpenFile{Path: d, Write: true, What: "the control group to enter", As: b.Group(i)})
	}
	if b.in.Filter.Listened() {
		b.onHost(plan.MakeWay{Ours: plan.ListenerTell, Way: plan.ListenerWay})
	}
	joined := append(b.Joined(), b.mounts()...)
	if b.guest() {
		joined = append(joined, b.users())
	}
	for _, j := range joined {
		b.onHost(plan.OpenFile{Path: j.Path, What: "the " + j.Namespace + " namespace to join", As: j.FD})
	}
	root := b.c.Root
	mode, all := strings.CutPrefix(root.Propagation, "r")
	if mode == "" {
		mode, all = "slave", true
	}
	if mode == "shared" || mode == "unbindable" { // a root that is shared could not be made the root
		mode, all = "private", true
	}
	b.onHost(plan.CloneMount{Path: root.Path, Recursive: true, What: "the root file system", As: plan.RootMount},
		plan.Attributes{Mount: plan.RootMount, Recursive: all, Propagation: mode, What: "the root file system"})
}

// attend makes the process, and does what there is to do while it waits.
func (b *bundler) attend(more []plan.Step) {
	born := plan.Clone{Namespaces: b.New(), Group: b.in.Groups.V2, Join: b.Joined()}
	if b.guest() { // it is reborn in them
		born.Namespaces = nil
	}
	b.onHost(born)
	if b.Private() && !b.guest() {
		b.onHost(plan.MapIDs{UID: b.c.Namespaces.User.UIDMap, GID: b.c.Namespaces.User.GIDMap})
	}
	if list := b.c.Networking.Devices; len(list) > 0 {
		b.onHost(MoveDevices{list})
	}
	b.onHost(b.shifts...)
	b.onHost(more...)
	if b.stays() {
		b.onHost(NoteRoot{b.c.Root.Path})
	}
	if b.hooked() {
		b.onHost(plan.Release{}, Mounted{})
	}
	if len(b.in.Hooks) > 0 {
		b.onHost(Hooks{Words: b.in.Hooks})
	}
	if len(b.in.Inside) > 0 {
		b.onHost(Hooks{Words: b.in.Inside, Inside: true})
	}
	if b.c.Process.OOMScore != nil { // it is the launcher's too for a while, but not the hooks'
		b.onHost(plan.OOMScore{Value: *b.c.Process.OOMScore})
	}
	b.onHost(plan.Release{})
	if f := b.in.Filter; f.Listened() {
		b.onHost(plan.HandOver{To: f.Listener})
	}
	b.onHost(Held{})
	b.onHost(plan.Served(b.c.Process.Attributes)...)
}

// hooked reports whether hooks are run before the process changes its root. They find it where
// the bundle has it.
func (b *bundler) hooked() bool { return len(b.in.Hooks)+len(b.in.Inside) > 0 }

// begin is what the process does first.
func (b *bundler) begin(clocks []plan.Step) {
	if b.guest() {
		b.inChild(b.users(), Reborn{b.New()})
	}
	b.inChild(plan.Await{})
	for i, d := range b.in.Groups.Enter {
		b.inChild(plan.EnterGroup{Dir: path.Dir(d), FD: b.Group(i)})
	}
	b.inChild(b.Label()...)
	if b.Fresh(b.c.Namespaces.Cgroup) {
		b.inChild(plan.Unshare{Namespace: "cgroup"})
	}
	if b.Private() {
		b.inChild(plan.BecomeRoot{})
	}
	b.inChild(clocks...)
	if b.Fresh(b.c.Namespaces.Net) {
		b.inChild(plan.LoopbackUp{})
	}
	if name := b.c.Namespaces.Hostname; name != "" {
		b.inChild(plan.Hostname{Name: name})
	}
	if name := b.c.Namespaces.Domainname; name != "" {
		b.inChild(plan.Domainname{Name: name})
	}
}

// view builds the file system that the container sees. All of it is done before Pivot, as long as
// the null device of the host can be cloned.
func (b *bundler) view() error {
	term := b.c.Process.Terminal
	if term {
		if !slices.ContainsFunc(b.c.Mounts, isTerminals) {
			return errs.Newf(errs.Invalid, "plan terminal", "", "the container has no devpts at /dev/pts").
				WithHint("add it to mounts in config.json, or set process.terminal to false")
		}
		b.inChild(b.terminal())
	}
	for _, j := range b.mounts() {
		b.inChild(j)
	}
	start := len(b.child)
	b.inChild(plan.OpenDev{As: plan.DevMount}, b.enterRoot())
	if len(b.in.Sources) != len(b.c.Mounts) {
		return errs.Newf(errs.Internal, "plan mounts", "", "a source for each mount is wanted")
	}
	for i := range b.c.Mounts {
		if err := b.mount(i); err != nil {
			return errs.Wrap("plan mount", b.c.Mounts[i].Target, err)
		}
	}
	b.child = slices.Insert(b.child, start, b.hosts()...)
	b.devices()
	if term {
		b.inChild(BindConsole{})
	}
	if b.hooked() {
		b.inChild(AwaitHooks{})
	}
	for _, name := range slices.Sorted(maps.Keys(b.c.Sysctls)) {
		b.inChild(plan.Sysctl{Name: name, Value: b.c.Sysctls[name]})
	}
	for _, p := range b.c.Security.Masked {
		b.inChild(plan.Mask{Path: p})
	}
	for _, p := range b.c.Security.ReadOnlyPaths {
		b.inChild(plan.ReadOnlyPath{Path: p})
	}
	b.inChild(b.seal...)
	if b.c.Root.ReadOnly {
		b.inChild(plan.ReadOnlyRoot{})
	}
	switch {
	case b.stays():
		b.inChild(Chroot{})
	case b.in.NoPivot:
		b.inChild(MoveRoot{})
	default:
		b.inChild(plan.Pivot{})
	}
	if mode, all := strings.CutPrefix(b.c.Root.Propagation, "r"); mode == "shared" || mode == "unbindable" {
		b.inChild(RootPropagation{mode, all})
	}
	return nil
}

// hosts is what is done with the copy of the host's mounts before anything is mounted there: what is
// cloned from it goes on to show what the host mounts there, unless the root file system does not.
func (b *bundler) hosts() []plan.Step {
	switch {
	case b.stays():
		return nil
	case len(b.sources) > 0 && b.c.Root.Propagation != "rprivate":
		return append(b.sources, plan.Propagation{Mode: "slave"})
	}
	return append(b.sources, plan.Propagation{Mode: "private"})
}

// stays reports whether the container has the host's mount namespace: its root then lies where the
// bundle has it, for all to see, until it is removed.
func (b *bundler) stays() bool { return b.c.Namespaces.Mount.Mode == spec.Host }

// guest reports whether the container has a user namespace that is there already.
func (b *bundler) guest() bool { return b.c.Namespaces.User.Path != "" }

func (b *bundler) users() plan.Join {
	return plan.Join{Namespace: "user", FD: "ns:user", Path: b.c.Namespaces.User.Path}
}

// mounts is the mount namespace that is there already, if it gets none of its own. Its tree is
// dropped for the container's, for all who are in it.
func (b *bundler) mounts() []plan.Join {
	if n := b.c.Namespaces.Mount; n.Mode == spec.Path {
		return []plan.Join{{Namespace: "mount", FD: "ns:mount", Path: n.Path}}
	}
	return nil
}

func (b *bundler) enterRoot() plan.EnterRoot {
	s := plan.EnterRoot{Mount: plan.RootMount, Stay: b.stays()}
	if b.hooked() || s.Stay {
		s.At = b.c.Root.Path
	}
	return s
}

func isTerminals(m spec.Mount) bool { return m.Type == "devpts" && path.Clean(m.Target) == "/dev/pts" }

// terminal makes the devpts of the terminal as its mount says.
func (b *bundler) terminal() plan.OpenTerminal {
	for _, m := range b.c.Mounts {
		if isTerminals(m) {
			w, _ := readOptions(m.Options)
			return plan.OpenTerminal{As: plan.Terminal, Size: b.c.Process.Size, Options: append([]string{}, w.data...)}
		}
	}
	return plan.OpenTerminal{As: plan.Terminal}
}

// mount is one mount of the list.
func (b *bundler) mount(i int) error {
	mnt := b.c.Mounts[i]
	w, err := readOptions(mnt.Options)
	if err != nil {
		return err
	}
	target := path.Clean("/" + mnt.Target)
	if err := overProc(target, mnt, w.bind); err != nil && !w.remount {
		return err
	}
	if (w.idmap || len(mnt.UIDMap) > 0) && (w.remount || !w.bind && mnt.Type != spec.Bind) {
		return errs.Newf(errs.Unsupported, "", "", "owners are shifted in bind mounts only").WithHint("leave idmap, uidMappings and gidMappings out")
	}
	switch {
	case w.remount:
		return b.remount(i, target, w)
	case w.bind || mnt.Type == spec.Bind:
		return b.bind(i, target, w)
	case mnt.Type == "cgroup":
		b.groups(target, w)
	case b.c.Process.Terminal && isTerminals(mnt):
		b.inChild(plan.Attach{Mount: plan.Terminal, Target: target, What: "the devpts of the terminal"})
	case w.copyUp:
		if mnt.Type != spec.Tmpfs {
			return errs.Newf(errs.Invalid, "", "", "tmpcopyup is an option of tmpfs").WithHint("leave it out")
		}
		b.copied(i, target, w)
	default:
		b.fresh(mnt, target, w)
	}
	if mode := w.propagation; mode == "shared" || mode == "unbindable" { // it is private else, and has no master
		b.inChild(Propagate{target, mode})
	}
	return nil
}

// overProc refuses what would put something else in the place of the kernel's own /proc, of which
// programs believe what it says.
func overProc(target string, mnt spec.Mount, bind bool) error {
	switch target {
	case "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
		"/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled": // what lxcfs and its like bring
		return nil
	case "/proc":
		if mnt.Type == "proc" || bind && path.Clean(mnt.Source) == "/proc" {
			return nil
		}
	default:
		if !strings.HasPrefix(target, "/proc/") {
			return nil
		}
	}
	return errs.Newf(errs.Invalid, "", "", "it would lie over the kernel's own /proc").
		WithHint("choose another destination; at /proc itself only a mount of type proc is allowed")
}

func (b *bundler) bind(i int, target string, w mountWords) error {
	h, what := plan.Handle("mount"+strconv.Itoa(i)), b.in.Sources[i].Path
	clone := plan.CloneMount{Path: what, Recursive: w.below, What: "for " + target, As: h}
	p := plan.Attributes{Mount: h, Recursive: w.propagationAll, Propagation: w.propagation, What: what}
	if p.Propagation == "" {
		p.Recursive, p.Propagation = w.below, "slave"
	}
	do := b.onHost
	if b.inOrder(i, w) {
		do = b.inChild
		clone.From = plan.Handle("source" + strconv.Itoa(i))
		b.sources = append(b.sources, plan.OpenSource{Path: what, What: clone.What, As: clone.From})
	}
	do(clone)
	if len(w.set)+len(w.clear) > 0 {
		do(plan.Attributes{Mount: h, Set: w.set, Clear: w.clear, What: what})
	}
	if len(w.setAll)+len(w.clearAll) > 0 {
		do(plan.Attributes{Mount: h, Recursive: true, Set: w.setAll, Clear: w.clearAll, What: what})
	}
	if clone.From == "" || p.Propagation != "slave" { // what it is cloned from is that
		do(p)
	}
	b.inChild(plan.Attach{Mount: h, Target: target, File: b.in.Sources[i].File, What: what})
	return b.shift(i, h, w)
}

// inOrder reports whether a bind mount is cloned by the process, from its copy of the host's mounts,
// when it is its turn: Linux 6.8 sorts /proc/self/mountinfo by when mounts were made. The launcher clones
// what only it can: mounts that are shifted or shown to a user namespace, those that are shared with the
// host, and what is found by way of a process.
func (b *bundler) inOrder(i int, w mountWords) bool {
	apart := slices.Contains([]string{"", "rslave", "rprivate"}, b.c.Root.Propagation) // as all that it clones then is
	return !b.Private() && b.Fresh(b.c.Namespaces.Mount) && !w.idmap && len(b.c.Mounts[i].UIDMap) == 0 &&
		(apart || w.propagation != "shared") && !strings.HasPrefix(b.in.Sources[i].Path, "/proc/")
}

// shift shows the owners of a bind mount as its own maps say, or those of the container.
func (b *bundler) shift(i int, h plan.Handle, w mountWords) error {
	mnt := b.c.Mounts[i]
	s := plan.IDMap{Mount: h, Recursive: w.idmapAll, What: b.in.Sources[i].Path}
	switch {
	case len(mnt.UIDMap) > 0:
		s.By = "owners" + plan.Handle(strconv.Itoa(i))
		b.onHost(plan.MapUsers{UID: mnt.UIDMap, GID: mnt.GIDMap, As: s.By}, s)
	case w.idmap && b.Private():
		b.shifts = append(b.shifts, s)
	case w.idmap:
		return errs.Newf(errs.Invalid, "", "", "there is nothing to shift owners by").
			WithHint(`give the mount uidMappings and gidMappings, or the container {"type": "user"} in linux.namespaces`)
	}
	return nil
}

// remount changes a mount that is there. File systems that were not made for the container stay as
// they are: the change would be the host's.
func (b *bundler) remount(i int, target string, w mountWords) error {
	s := Remount{Path: target, Set: w.set, Clear: w.clear, SetAll: w.setAll, ClearAll: w.clearAll, Options: w.data}
	s.Reconfigure = !w.bind && b.made(i, target)
	if len(s.Options) > 0 && !s.Reconfigure {
		return errs.Newf(errs.Unsupported, "", "", "the file system there is not the container's alone, and "+strings.Join(s.Options, ",")+" would change it for all").
			WithHint("leave them out; options of the mount itself, as ro, can be changed")
	}
	b.inChild(s)
	if w.propagation != "" {
		b.inChild(Propagate{target, w.propagation})
	}
	return nil
}

// made reports whether what lies at a target was made by a mount of the list before the i-th.
func (b *bundler) made(i int, target string) bool {
	for _, m := range slices.Backward(b.c.Mounts[:i]) {
		if path.Clean("/"+m.Target) != target {
			continue
		}
		if w, _ := readOptions(m.Options); !w.remount {
			return !w.bind && m.Type != spec.Bind && m.Type != "cgroup"
		}
	}
	return false
}

// fresh is a new file system. A tmpfs stays writable until all that is mounted in it is.
func (b *bundler) fresh(mnt spec.Mount, target string, w mountWords) {
	f := plan.MountFS{Type: string(mnt.Type), Source: mnt.Source, Target: target, Options: w.data}
	for _, a := range append(slices.Clone(w.set), w.setAll...) {
		switch a {
		case "ro":
			f.ReadOnly = true
		case "nosuid":
			f.NoSuid = true
		case "nodev":
			f.NoDev = true
		case "noexec":
			f.NoExec = true
		default:
			f.Attrs = append(f.Attrs, a)
		}
	}
	if f.ReadOnly && f.Type == "tmpfs" {
		f.ReadOnly = false
		b.seal = append(b.seal, SealMount{target})
	}
	b.inChild(f)
}

// copied is a tmpfs that begins with what the root has at its place.
func (b *bundler) copied(i int, target string, w mountWords) {
	h, what := plan.Handle("mount"+strconv.Itoa(i)), "for "+target
	b.onHost(plan.MakeTmpfs{Source: b.c.Mounts[i].Source, Options: w.data, What: what, As: h},
		plan.Seed{From: plan.RootMount, Target: target, To: h, Volume: what})
	set := slices.DeleteFunc(append(slices.Clone(w.set), w.setAll...), func(a string) bool { return a == "ro" })
	if len(set) > 0 {
		b.onHost(plan.Attributes{Mount: h, Set: set, What: "the tmpfs " + what})
	}
	if slices.Contains(w.set, "ro") {
		b.seal = append(b.seal, SealMount{target})
	}
	b.inChild(plan.Attach{Mount: h, Target: target, What: "the tmpfs " + what})
}

// groups shows the container's control groups: of cgroup v2 one mount, of v1 a folder of them.
func (b *bundler) groups(target string, w mountWords) {
	one := len(b.in.Groups.Mount) == 1 && b.in.Groups.Mount[0].Target == ""
	if !one {
		b.fresh(spec.Mount{Type: spec.Tmpfs, Source: "tmpfs"}, target, mountWords{set: w.set, data: []string{"mode=755"}})
	}
	for _, f := range b.in.Groups.Mount {
		if names := strings.Split(f.Target, ","); len(names) > 1 { // controllers that are mounted together
			for _, n := range names {
				b.inChild(Link{Path: path.Join(target, n), To: f.Target})
			}
		}
		here := w
		here.data = f.Options
		b.fresh(spec.Mount{Type: spec.MountType(f.Type), Source: f.Source}, path.Join(target, f.Target), here)
	}
	for i, f := range b.in.Binds {
		h := plan.Handle("group" + strconv.Itoa(i))
		b.onHost(plan.CloneMount{Path: f.Path, What: f.What, As: h}, plan.Attributes{Mount: h, Set: w.set, Propagation: "private", What: f.Path})
		b.inChild(plan.Attach{Mount: h, Target: path.Join(target, f.Target), What: f.What})
	}
}

// devices is the nodes of /dev: those that every container has by the specification (config-linux.md,
// "Default Devices"), then its own. Who has no right to make nodes shows those of the host.
func (b *bundler) devices() {
	for _, m := range b.c.Mounts {
		if w, _ := readOptions(m.Options); path.Clean(m.Target) == "/dev" && (w.bind || m.Type == spec.Bind) {
			return // the host's own
		}
	}
	user := b.c.Devices
	nodes := plan.StandardDevices()
	for _, d := range user {
		nodes = slices.DeleteFunc(nodes, func(n spec.Device) bool { return n.Path == d.Path })
	}
	for _, d := range slices.Concat(nodes, user) {
		if !b.Private() && !b.in.Host.Nested {
			b.inChild(MakeNode{d})
			continue
		}
		h := plan.Handle("dev:" + d.Path)
		b.onHost(plan.CloneMount{Path: d.Path, What: "the host's " + d.Path, As: h})
		b.inChild(plan.Attach{Mount: h, Target: d.Path, File: true, What: "the host's " + d.Path})
	}
	b.inChild(Link{Path: "/dev/fd", To: "/proc/self/fd"}, Link{Path: "/dev/stdin", To: "/proc/self/fd/0"},
		Link{Path: "/dev/stdout", To: "/proc/self/fd/1"}, Link{Path: "/dev/stderr", To: "/proc/self/fd/2"},
		Link{Path: "/dev/core", To: "/proc/kcore"}, Link{Path: "/dev/ptmx", To: "pts/ptmx", Replace: true})
}

// identity is what the process does last.
func (b *bundler) identity(id plan.Identity, last []plan.Step) {
	sec, proc := b.c.Security, b.c.Process
	b.inChild(b.Keyring()...)
	b.inChild(plan.Seen(proc.Attributes)...)
	if proc.Terminal {
		b.inChild(OwnTerminal{id.UID})
	}
	held := []plan.Handle{plan.HeldReady, plan.HeldKnown, plan.StartFIFO}
	if b.in.Filter.Listened() {
		held = append(held, plan.ListenerWay)
	}
	b.inChild(plan.Stdio{Terminal: proc.Terminal}, plan.KeepFDs{FDs: b.in.FDs, Held: held})
	umask := uint32(0o022)
	if proc.Umask != nil {
		umask = *proc.Umask
	}
	b.inChild(plan.Umask{Mask: umask}, plan.Chdir{Dir: proc.Cwd}, decide.Bounding(sec.Capabilities))
	if sec.AllowNewPrivs {
		b.inChild(b.Filter()...)
	}
	sets := spec.CapSets{}
	if sec.Sets != nil {
		sets = *sec.Sets
	}
	b.inChild(plan.KeepCaps{}, plan.SetUser{UID: id.UID, GID: id.GID, Groups: id.Groups, Keep: b.in.Host.Alone}, plan.HoldCaps{CapSets: sets})
	b.inChild(last...)
	paths := plan.Lookup(proc.Args[0], proc.Env)
	last = nil
	if !sec.AllowNewPrivs {
		last = append([]plan.Step{plan.NoNewPrivs{}}, b.Filter()...)
	}
	b.inChild(Find{paths, proc.Args[0]})
	if b.in.Filter.Listened() { // who starts the container has no way to its process any more
		b.inChild(append(last, plan.Hold{Start: plan.StartFIFO})...)
	} else {
		b.inChild(append([]plan.Step{plan.Hold{Start: plan.StartFIFO}}, last...)...)
	}
	b.inChild(plan.Exec{Paths: paths, Args: proc.Args, Env: proc.Env})
}

// GroupViews is what a mount of type cgroup shows where there are hierarchies of cgroup v1: a mount of
// each, which in a cgroup namespace has the container's own group as its root.
func GroupViews(hierarchies [][]string, unified bool) (list []plan.MountFS) {
	for _, controllers := range hierarchies {
		target, options := strings.Join(controllers, ","), controllers
		if name, ok := strings.CutPrefix(target, "name="); ok { // one without controllers
			target, options = name, []string{"none", target}
		}
		list = append(list, plan.MountFS{Type: "cgroup", Source: "cgroup", Target: target, Options: options})
	}
	if unified {
		list = append(list, plan.MountFS{Type: "cgroup2", Source: "cgroup", Target: "unified"})
	}
	return list
}
