package bundle

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// translator fills in a spec.Container; the first error stays.
type translator struct {
	dir  string
	held uint64
	out  *spec.Container
	warn []string
	err  error
}

func (t *translator) fail(what, why, hint string) {
	if t.err == nil {
		t.err = errs.Newf(errs.Invalid, what, "", why).WithHint(hint)
	}
}

func (t *translator) container(c *config) {
	t.out = &spec.Container{Version: spec.Version, Life: spec.Life{NoInit: true}, Sysctls: c.Linux.Sysctl}
	t.out.Namespaces = namespaces(c.Linux.Namespaces)
	n := &t.out.Namespaces
	n.Hostname, n.Domainname = c.Hostname, c.Domainname
	if (n.Hostname != "" || n.Domainname != "") && n.UTS.Mode == spec.Host {
		t.fail("hostname", "it would be the host's name that changes", `add {"type": "uts"} to linux.namespaces`)
	}
	t.user(c)
	t.hooks(c.Hooks)
	t.clocks(c)
	t.root(c)
	for _, m := range c.Mounts {
		t.mount(m)
	}
	t.devices(c.Linux.Devices)
	t.out.Security = spec.Security{
		Seccomp: c.Linux.Seccomp, Unconfined: c.Linux.Seccomp == nil,
		Masked: c.Linux.MaskedPaths, ReadOnlyPaths: c.Linux.ReadonlyPaths, SELinuxMount: c.Linux.MountLabel,
	}
	if s := c.Linux.Seccomp; s != nil && s.DefaultAction == "" {
		t.fail("linux.seccomp", "no defaultAction", "leave linux.seccomp out for no filter at all")
	}
	if s := c.Linux.Seccomp; s != nil && s.ListenerMetadata != "" && s.ListenerPath == "" {
		t.fail("linux.seccomp.listenerMetadata", "there is no listenerPath that it would be sent to", "name the socket of the agent, or leave it out")
	}
	t.process(c.Process, &t.out.Process, &t.out.Security)
	t.machine(&c.Linux.Linux)
	t.out.IntelRdt = c.Linux.IntelRdt
	t.netDevices(c.Linux.NetDevices)
	if c.Linux.Resources != nil {
		t.out.Resources = *c.Linux.Resources
	}
	noProcesses(&t.out.Resources.Pids, c.Version)
	// As with other runtimes the harmless devices can be used whatever the rules are.
	if r := &t.out.Resources; len(r.Devices) > 0 {
		r.Devices = slices.Concat(r.Devices, cgroup.DefaultDevices()[1:])
	}
}

// noProcesses says what a limit of 0 processes means. Before version 1.3 of the specification runtimes took it
// for none, and Podman writes it so. Since then it is one, and as in runc means the first process alone,
// which could not be born otherwise.
func noProcesses(p *spec.Pids, version string) {
	if p.Limit == nil || *p.Limit != 0 {
		return
	}
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "1."), ".")
	if n, err := strconv.Atoi(minor); err == nil && n < 3 {
		p.Limit = nil
		return
	}
	one := int64(1)
	p.Limit = &one
}

// namespaces is where each comes from: what is not listed is the host's.
func namespaces(list []specs.LinuxNamespace) spec.Namespaces {
	host := spec.Namespace{Mode: spec.Host}
	n := spec.Namespaces{User: spec.UserNS{Mode: spec.UserHost}, Mount: host, PID: host, IPC: host, UTS: host, Cgroup: host, Net: host}
	for _, x := range list {
		ns := spec.Namespace{}
		if x.Path != "" {
			ns = spec.Namespace{Mode: spec.Path, Path: x.Path}
		}
		switch x.Type {
		case specs.MountNamespace:
			n.Mount = ns
		case specs.PIDNamespace:
			n.PID = ns
		case specs.NetworkNamespace:
			n.Net = ns
		case specs.IPCNamespace:
			n.IPC = ns
		case specs.UTSNamespace:
			n.UTS = ns
		case specs.CgroupNamespace:
			n.Cgroup = ns
		case specs.UserNamespace:
			n.User.Mode, n.User.Path = spec.UserMap, x.Path
		case specs.TimeNamespace:
			n.TimeOffset = map[string]int64{"boottime": 0}
		}
	}
	return n
}

// hooks have a path that needs no directory to be understood, and time, if that is said.
func (t *translator) hooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	//lint:ignore SA1019 it is deprecated, and container engines use it
	all := slices.Concat(h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop)
	for _, x := range all {
		switch {
		case !filepath.IsAbs(x.Path):
			t.fail("hooks", strconv.Quote(x.Path)+" is not absolute", "name the program of a hook from / on")
		case x.Timeout != nil && *x.Timeout <= 0:
			t.fail("hooks", "the timeout of "+x.Path+" is not above zero", "leave it out, or give it seconds")
		}
	}
}

func (t *translator) user(c *config) {
	u := &t.out.Namespaces.User
	if u.Mode == spec.UserHost {
		if len(c.Linux.UIDMappings)+len(c.Linux.GIDMappings) > 0 {
			t.fail("linux.uidMappings", "there is no user namespace to map", `add {"type": "user"} to linux.namespaces`)
		}
		return
	}
	if u.Path != "" { // it has its maps; some engines make up others
		return
	}
	u.UIDMap, u.GIDMap = idMaps(c.Linux.UIDMappings), idMaps(c.Linux.GIDMappings)
	if len(u.UIDMap) == 0 || len(u.GIDMap) == 0 {
		t.fail("linux.uidMappings", "a user namespace needs uidMappings and gidMappings", "fill them in")
	}
}

func idMaps(list []specs.LinuxIDMapping) []spec.IDMap {
	maps := make([]spec.IDMap, 0, len(list))
	for _, m := range list {
		maps = append(maps, spec.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
	}
	return maps
}

func (t *translator) clocks(c *config) {
	for clock, o := range c.Linux.TimeOffsets {
		if t.out.Namespaces.TimeOffset == nil || clock != "monotonic" && clock != "boottime" {
			t.fail("linux.timeOffsets", clock+" cannot be shifted", `"monotonic" and "boottime" can, with {"type": "time"} in linux.namespaces`)
			return
		}
		t.out.Namespaces.TimeOffset[clock] = o.Secs*1e9 + int64(o.Nanosecs)
	}
}

func (t *translator) root(c *config) {
	if c.Root == nil || c.Root.Path == "" {
		t.fail("root", "it has no path", "name the directory of the root file system in root.path")
		return
	}
	path := c.Root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.dir, path)
	}
	t.out.Root = spec.Root{ReadOnly: c.Root.Readonly, Path: path, Propagation: c.Linux.RootfsPropagation}
	switch strings.TrimPrefix(c.Linux.RootfsPropagation, "r") {
	case "", "private", "slave", "shared", "unbindable":
	default:
		t.fail("linux.rootfsPropagation", c.Linux.RootfsPropagation+" is none", "private, slave, shared and unbindable are, with an r before for all mounts below")
	}
}

func (t *translator) mount(m specs.Mount) {
	out := spec.Mount{Type: spec.MountType(m.Type), Source: m.Source, Target: m.Destination, Options: m.Options,
		UIDMap: idMaps(m.UIDMappings), GIDMap: idMaps(m.GIDMappings)}
	switch bind := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"); {
	case slices.Contains(m.Options, "remount"): // of whatever is there
		out.Type, out.Source = "none", ""
	case bind:
		out.Type = spec.Bind
	}
	if out.Type == spec.Bind && !filepath.IsAbs(m.Source) {
		out.Source = filepath.Join(t.dir, m.Source)
	}
	if out.Type == spec.Bind && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
		out.Options = append([]string{"bind"}, m.Options...)
	}
	if len(m.UIDMappings) == 0 != (len(m.GIDMappings) == 0) {
		t.fail("mounts", m.Destination+" has not both uidMappings and gidMappings", "fill in the other")
	}
	if m.Destination == "" {
		t.fail("mounts", "one has no destination", "fill it in")
	}
	t.out.Mounts = append(t.out.Mounts, out)
}

func (t *translator) devices(list []specs.LinuxDevice) {
	for _, d := range list {
		out := spec.Device{HostPath: d.Path, Path: d.Path, Access: "rwm", Type: d.Type, Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666}
		if d.FileMode != nil {
			out.Mode = uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			out.UID = *d.UID
		}
		if d.GID != nil {
			out.GID = *d.GID
		}
		if !strings.HasPrefix(d.Path, "/") || !slices.Contains([]string{"c", "u", "b", "p"}, d.Type) {
			t.fail("linux.devices", strconv.Quote(d.Path)+" of type "+strconv.Quote(d.Type)+" is no device", "give an absolute path, and one of c, u, b and p as type")
		}
		t.out.Devices = append(t.out.Devices, out)
	}
}

// process is a process, the first or a further one.
func (t *translator) process(p *specs.Process, out *spec.Process, sec *spec.Security) {
	out.Args, out.Env, out.Cwd, out.Terminal = p.Args, once(p.Env), p.Cwd, p.Terminal
	out.Stdin, out.OOMScore, out.Umask = true, p.OOMScoreAdj, p.User.Umask
	out.User = strconv.FormatUint(uint64(p.User.UID), 10) + ":" + strconv.FormatUint(uint64(p.User.GID), 10)
	for _, g := range p.User.AdditionalGids {
		out.Groups = append(out.Groups, strconv.FormatUint(uint64(g), 10))
	}
	if len(p.Args) == 0 {
		t.fail("process.args", "there is no command", "fill it in")
	}
	if !filepath.IsAbs(p.Cwd) {
		t.fail("process.cwd", strconv.Quote(p.Cwd)+" is not absolute", `"/" will do`)
	}
	if b := p.ConsoleSize; b != nil && p.Terminal {
		out.Size = &spec.Size{Rows: uint16(b.Height), Columns: uint16(b.Width)}
	}
	if !hasEnv(p.Env, "HOME") {
		out.Env = append(out.Env, "HOME="+Home(t.out.Root.Path, out.User))
	}
	seen := map[string]bool{}
	for _, r := range p.Rlimits {
		name, ok := strings.CutPrefix(r.Type, "RLIMIT_")
		name = strings.ToLower(name)
		if _, known := plan.RlimitNumber(name); !ok || !known || seen[name] || r.Soft > r.Hard {
			t.fail("process.rlimits", r.Type+" is no limit, is there twice, or is above its hard one", "setrlimit(2) lists them")
		}
		seen[name] = true
		out.Rlimits = append(out.Rlimits, spec.Rlimit{Name: name, Soft: r.Soft, Hard: r.Hard})
	}
	sec.AllowNewPrivs, sec.AppArmor, sec.SELinux = !p.NoNewPrivileges, p.ApparmorProfile, p.SelinuxLabel
	t.capabilities(p.Capabilities, sec)
	t.attributes(p, &out.Attributes)
}

// once is an environment in which each name is there once, with its last value: programs would find the
// first.
func once(env []string) (out []string) {
	at := map[string]int{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if i, there := at[name]; there {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

// capabilities leaves out what is not known, or not ours to give: that is a warning, as the
// specification has it. Ambient ones are those that are permitted and inheritable too: the kernel
// takes no others.
func (t *translator) capabilities(c *specs.LinuxCapabilities, sec *spec.Security) {
	sec.Sets = &spec.CapSets{}
	if c == nil {
		return
	}
	warned := map[string]bool{}
	usable := func(list []string) []string {
		var out []string
		for _, name := range list {
			n, known := plan.CapNumber(name)
			switch {
			case known && t.held&(1<<n) != 0:
				out = append(out, name)
			case !warned[name]:
				warned[name] = true
				t.warn = append(t.warn, "the capability "+name+" is not known, or not there to be given, and is left out")
			}
		}
		return out
	}
	sec.Capabilities = usable(c.Bounding)
	*sec.Sets = spec.CapSets{Effective: usable(c.Effective), Permitted: usable(c.Permitted), Inheritable: usable(c.Inheritable)}
	for _, name := range usable(c.Ambient) {
		if slices.Contains(sec.Sets.Permitted, name) && slices.Contains(sec.Sets.Inheritable, name) {
			sec.Sets.Ambient = append(sec.Sets.Ambient, name)
		}
	}
}

// Process reads a further process of a container (process.json), and what it may do. What is not said
// of it is as with the first one.
func Process(c *spec.Container, p *specs.Process, held uint64) (spec.Process, spec.Security, []string, error) {
	t := &translator{held: held, out: c}
	sec := c.Security
	out := spec.Process{Attributes: c.Process.Attributes}
	t.process(p, &out, &sec)
	if p.Capabilities == nil {
		sec.Sets = c.Security.Sets
	}
	if p.OOMScoreAdj == nil {
		out.OOMScore = c.Process.OOMScore
	}
	return out, sec, t.warn, t.err
}
