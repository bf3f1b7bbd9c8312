package cgroup

import (
	"path"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// DefaultParent is the group that holds the containers' groups.
const DefaultParent = "corten"

// Request is what is asked of a container's group.
type Request struct {
	Resources spec.Resources
	Parent    string // absolute: below the mount; relative: below the hierarchy's base; empty: DefaultParent
	ID        string // the group's own name
	Account   bool   // count memory even where it is not limited, for stats and to name an OOM kill
	Ready     bool   // be able to limit memory, CPU time and processes later (Update)
	Every     bool   // join every hierarchy of v1, for others who look for the container there
}

// Plan is what will be done, in this order: make the groups, hand controllers down to the v2
// one, write the limits, attach the device filter. The process is then born in V2, and
// enters the v1 groups by writing "0" to each file of Enter.
type Plan struct {
	Group    Group    // to make; groups above are made if missing
	V2       string   // the one of v2, for CLONE_INTO_CGROUP (Linux 5.7); empty: none
	Enter    []string // a "tasks" file for each of v1
	Enable   []Write  // to cgroup.subtree_control of each group above V2, from the top
	Writes   []Write  // to control files
	Filter   Filter   // for V2
	Warnings []string // what was asked for and has no effect here, and why
}

// Write is one value for one control file.
type Write struct {
	File     string `json:"file"`
	Value    string `json:"value"`
	Why      string `json:"why"`                // "limit memory to 64 MiB"
	Optional bool   `json:"optional,omitempty"` // nothing is lost where the kernel has no such file
	Inherit  bool   `json:"inherit,omitempty"`  // the value is that of the group above, and only if the file is empty
	Atop     string `json:"atop,omitempty"`     // a file with what is in use: a value below that is refused
	Else     *Write `json:"else,omitempty"`     // what to write where the kernel has no such file
}

// New plans a container's group on a host. It does nothing itself.
func New(host Host, r Request) (Plan, error) {
	parent, err := group(r)
	if err != nil {
		return Plan{}, err
	}
	b := &builder{host: host, parent: parent, id: r.ID}
	b.track()
	if r.Account || r.Ready {
		b.account()
	}
	if r.Ready {
		_, _ = b.use("", "cpu", "cpu")
		_, _ = b.use("", "pids", "pids")
	}
	if r.Every {
		b.every()
	}
	if err := b.resources(r.Resources); err != nil {
		return Plan{}, err
	}
	if len(b.plan.Group) == 0 {
		b.warn("no control group can be made here: nothing is counted, and the container cannot be paused")
	}
	return b.finish(), nil
}

// Update plans new limits for a group that exists. Apply carries it out.
func Update(host Host, g Group, r spec.Resources) (Plan, error) {
	b := &builder{host: host, update: true}
	b.plan.Group = g
	for _, dir := range g {
		if below(host.V2.Mount, dir) {
			b.plan.V2 = dir
		}
	}
	if err := b.resources(r); err != nil {
		return Plan{}, err
	}
	p := b.finish()
	p.Group, p.V2 = nil, ""
	return p, nil
}

// below reports whether a directory is in the tree of groups mounted at mount.
func below(mount, dir string) bool { return mount != "" && strings.HasPrefix(dir, mount+"/") }

// Words says what is done to the groups once they are made, a step each.
func (p Plan) Words() []string {
	var words []string
	for _, w := range slices.Concat(p.Enable, p.Writes) {
		words = append(words, w.String())
	}
	if p.Filter.Rules != nil {
		words = append(words, p.Filter.String())
	}
	return words
}

func (w Write) String() string {
	words := w.Why + `: write "` + w.Value + `" to ` + w.File
	if w.Inherit {
		words = w.Why + ": copy " + w.File + " from the group above, if it is empty"
	}
	if w.Else != nil {
		words += ", or where that is missing " + `"` + w.Else.Value + `" to ` + w.Else.File
	}
	if w.Optional {
		words += ", if it is there"
	}
	if w.Atop != "" {
		words += ", unless more is in use"
	}
	return words
}

// group checks the names in a request and returns the parent.
func group(r Request) (string, error) {
	if r.ID == "" || r.ID == "." || r.ID == ".." || strings.ContainsAny(r.ID, "/\n") {
		return "", errs.Newf(errs.Invalid, "name control group", r.ID, "want a file name")
	}
	if r.Parent == "" {
		return DefaultParent, nil
	}
	if slices.Contains(strings.Split(r.Parent, "/"), "..") || strings.Contains(r.Parent, "\n") {
		return "", errs.Newf(errs.Invalid, "use control group parent", r.Parent, `".." is not allowed`)
	}
	return r.Parent, nil
}

// builder collects a plan.
type builder struct {
	host   Host
	parent string
	id     string
	update bool     // the groups exist, and no others can be joined
	enable []string // v2 controllers that the group needs
	plan   Plan
}

func (b *builder) warn(text string) { b.plan.Warnings = append(b.plan.Warnings, text) }

func (b *builder) write(w ...Write) { b.plan.Writes = append(b.plan.Writes, w...) }

// top is the existing group of a hierarchy below which the parent is found.
func (b *builder) top(t Hierarchy) string {
	if path.IsAbs(b.parent) {
		return t.Mount
	}
	return path.Join(t.Mount, t.Base)
}

// dir is the container's group in a hierarchy.
func (b *builder) dir(t Hierarchy) string { return path.Join(b.top(t), b.parent, b.id) }

// track chooses the hierarchy in which the container is found, frozen and killed: v2 wherever
// there is one, because a process can be born in its group, and one write freezes or kills all
// of it; else the v1 freezer.
func (b *builder) track() {
	if b.host.V2.Base != "" {
		b.plan.V2 = b.dir(b.host.V2)
		b.plan.Group = Group{b.plan.V2}
	} else if i := b.v1("freezer"); i >= 0 && b.host.V1[i].Base != "" {
		b.join(b.host.V1[i])
	}
}

// v1 finds the v1 hierarchy of a controller; -1 if there is none.
func (b *builder) v1(controller string) int {
	return slices.IndexFunc(b.host.V1, func(t Hierarchy) bool { return t.has(controller) })
}

// join adds a v1 hierarchy to those that the container is part of, and returns its group.
func (b *builder) join(t Hierarchy) string {
	dir := b.dir(t)
	b.plan.Group = append(b.plan.Group, dir)
	b.plan.Enter = append(b.plan.Enter, path.Join(dir, "tasks"))
	return dir
}

// account has memory counted, and processor time where v2 does not do so anyway.
func (b *builder) account() {
	_, _ = b.use("", "memory", "memory") // without the controller there are no numbers
	if b.host.V2.Mount == "" {
		_, _ = b.use("", "", "cpuacct")
	}
}

// every joins what v1 has, also what systemd knows units by. Where the container gets no group it stays out.
func (b *builder) every() {
	if b.host.Unit.Base != "" {
		b.join(b.host.Unit)
	}
	for _, t := range b.host.V1 {
		for _, name := range t.Controllers {
			s, err := b.use("", name, name)
			if err == nil && name == "cpuset" && !s.v2 {
				b.inheritCPUs(s) // a group without cpus takes no process in
			}
		}
	}
}

// site is where a controller keeps the container's files.
type site struct {
	dir string
	v2  bool
}

func (s site) file(name string) string { return path.Join(s.dir, name) }

// use makes the container a member of a controller, by its v2 and its v1 name, for what.
func (b *builder) use(what, v2, v1 string) (site, error) {
	if b.host.V2.has(v2) {
		if b.plan.V2 == "" {
			return site{}, b.outside(what, v2)
		}
		if !slices.Contains(b.enable, v2) {
			b.enable = append(b.enable, v2)
		}
		return site{b.plan.V2, true}, nil
	}
	i := b.v1(v1)
	switch {
	case i < 0 && b.host.V2.Mount == "" && len(b.host.V1) == 0:
		return site{}, errs.Newf(errs.Unsupported, what, "", "no control groups are mounted").
			WithHint("mount -t cgroup2 cgroup2 /sys/fs/cgroup; ip netns exec NAME mounts a /sys without them, and " +
				"nsenter --net=/run/netns/NAME leaves the host's where it is")
	case i < 0 && b.host.V2.Mount == "":
		return site{}, missing(what, v1)
	case i < 0 && b.host.V2.Base != "":
		return site{}, missing(what, v2)
	case i < 0 || b.host.V1[i].Base == "":
		return site{}, errs.Newf(errs.Denied, what, "", "the control groups of this host are not ours to use").
			WithHint(DelegateHint)
	}
	for _, dir := range b.plan.Group {
		if below(b.host.V1[i].Mount, dir) {
			return site{dir: dir}, nil
		}
	}
	if b.update {
		return site{}, b.outside(what, v1)
	}
	return site{dir: b.join(b.host.V1[i])}, nil
}

// DelegateHint says how a user who is not root gets groups.
const DelegateHint = "run as root, or in a delegated scope: systemd-run --user --scope -p Delegate=yes corten ..."

func (b *builder) outside(what, controller string) error {
	return errs.Newf(errs.Unsupported, what, "", "the container was started outside the control group controller "+controller).
		WithHint("start the container with a limit of this sort; it can then be changed")
}

func missing(what, controller string) error {
	cause := "this host has no control group controller " + controller
	hint := "leave the limit out, or use a kernel with that controller"
	switch controller {
	case "memory":
		hint = "leave the limit out, or boot with cgroup_enable=memory"
	case "":
		cause = "cgroup v2 has no control group controller for it"
		hint = "leave the limit out; packets can be marked with nftables (socket cgroupv2)"
	}
	return errs.Newf(errs.Unsupported, what, "", cause).WithHint(hint)
}

// finish adds what the groups above have to hand down.
func (b *builder) finish() Plan {
	if len(b.enable) == 0 {
		return b.plan
	}
	value := "+" + strings.Join(b.enable, " +")
	base := path.Join(b.host.V2.Mount, b.host.V2.Base)
	for dir := path.Dir(b.plan.V2); ; dir = path.Dir(dir) {
		b.plan.Enable = append(b.plan.Enable, Write{
			File: path.Join(dir, "cgroup.subtree_control"), Value: value, Why: "hand down controllers"})
		if dir == base || len(dir) <= len(b.host.V2.Mount) {
			break
		}
	}
	slices.Reverse(b.plan.Enable)
	return b.plan
}

// resources plans every limit.
func (b *builder) resources(r spec.Resources) error {
	for _, err := range []error{
		b.memory(r.Memory),
		b.cpu(r.CPU),
		b.cpuset(r.CPU),
		b.pids(r.Pids),
		b.blockIO(r.BlockIO),
		b.hugepages(r.Hugepages),
		b.network(r.Network),
		b.rdma(r.RDMA),
		b.unified(r.Unified),
		b.devices(r.Devices),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
