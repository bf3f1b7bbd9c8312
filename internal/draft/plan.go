package draft

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Plan is what is to be done to start the container. Its PID 1 holds the guards for whoever
// looks after it.
func (d *Draft) Plan(guards ...plan.Handle) (plan.Plan, error) {
	layer := d.Site.layer(d.Spec.ID)
	layer.Volatile, layer.Size = d.Spec.Life.Remove, d.Spec.Root.Size
	facts, err := d.facts()
	if err != nil {
		return plan.Plan{}, err
	}
	in := decide.Input{
		Container: d.inOther(),
		Root:      d.base.root(layer),
		Sources:   d.sources,
		Accounts:  d.base.accounts(),
		Groups:    d.groupSteps(),
		Host:      facts,
		Guards:    guards,
	}
	in.Files, in.Made = d.ownFiles()
	if d.Net != nil {
		in.Connect = d.Net.Doc.Words()
	}
	d.serve(&in)
	if in.Filter, err = Filter(d.Site.Dirs.Run, d.Spec.Security); err != nil {
		return plan.Plan{}, err
	}
	p, err := decide.Make(in)
	p.Warnings = append(p.Warnings, d.groups.Warnings...)
	return p, err
}

// inOther is the description with the network of another container as a file.
func (d *Draft) inOther() *spec.Container {
	if d.Spec.Namespaces.Net.Mode != spec.Of {
		return d.Spec
	}
	c := *d.Spec
	c.Namespaces.Net = spec.Namespace{Mode: spec.Path, Path: "the network of container " + d.Spec.Namespaces.Net.Path}
	if d.other != nil {
		c.Namespaces.Net.Path = "/proc/self/fd/" + strconv.Itoa(int(d.other.ns.Fd()))
	}
	return &c
}

// ownFiles is the files that a container has of its own. A platform brings its own, and has those
// replaced that would say something wrong.
func (d *Draft) ownFiles() ([]plan.File, []plan.Made) {
	name, made := d.Spec.Namespaces.Hostname, []plan.Made(nil)
	if !d.Spec.Image.Platform {
		made = append(made, plan.Made{Target: "/etc/hostname", Content: name + "\n"})
	}
	c, doc := d.Spec, (*wiring.Document)(nil)
	switch {
	case d.Spec.Namespaces.Net.Mode == spec.Host:
		return d.hostNames(made)
	case d.other != nil: // it is known by its addresses and names
		c, doc = d.other.spec, d.other.doc
	case d.Net != nil:
		doc = d.Net.Doc
	case d.Spec.Image.Platform && len(d.Spec.Networking.Hosts) == 0:
		return nil, made
	}
	made = append(made, plan.Made{Target: "/etc/hosts", Content: hostsFile(c, d.Spec.Networking.Hosts, doc)})
	if doc != nil {
		made = append(made, plan.Made{Target: "/etc/resolv.conf", Content: d.resolvConf(doc)})
	}
	return nil, made
}

// hostNames is how a container in the host's network finds names: as the host does, unless the user
// says otherwise.
func (d *Draft) hostNames(made []plan.Made) ([]plan.File, []plan.Made) {
	n, files := d.Spec.Networking, []plan.File(nil)
	switch {
	case len(n.Hosts) > 0:
		b, _ := os.ReadFile("/etc/hosts")
		made = append(made, plan.Made{Target: "/etc/hosts", Content: string(b) + hostLines(n.Hosts, nil)})
	case !d.Spec.Image.Platform:
		files = appendHostFile(files, "/etc/hosts")
	}
	switch {
	case len(n.DNS)+len(n.DNSSearch)+len(n.DNSOptions) > 0:
		r := hostResolvConf().over(n)
		made = append(made, plan.Made{Target: "/etc/resolv.conf", Content: r.text(r.servers)})
	case !d.Spec.Image.Platform:
		files = appendHostFile(files, "/etc/resolv.conf")
	}
	return files, made
}

// resolvConf is how a container finds names that is connected as a document says.
func (d *Draft) resolvConf(doc *wiring.Document) string {
	r := hostResolvConf().over(d.Spec.Networking)
	if d.Net != nil && d.Net.plug != nil && d.Net.plug.Server() != "" {
		return r.text([]string{d.Net.plug.Server()})
	}
	if doc.Resolver == nil {
		return r.text(r.remote())
	}
	return r.text([]string{wiring.ResolverIP})
}

// appendHostFile shows a file of the host to a container in the host's network, if the host has it.
func appendHostFile(files []plan.File, path string) []plan.File {
	if there, _, _ := exists(path); !there {
		return files
	}
	return append(files, plan.File{Source: plan.Source{Path: path, File: true}, Target: path, ReadOnly: true, What: "the host's " + path})
}

// facts asks the host only what this container depends on.
func (d *Draft) facts() (plan.Facts, error) {
	f, err := Modules(d.Spec.Security)
	f.Tied = !d.kept()
	if err == nil && !d.Spec.Life.NoInit {
		name := "corten-init"
		if f.Nested { // of one that he may not read, nobody but the host's root may see what it does
			name = "corten-init-user"
		}
		f.Init, err = programs.Find(name)
		var st unix.Stat_t
		f.Hidden = err == nil && unix.Stat(f.Init, &st) == nil && st.Uid == 0 && st.Gid == 0 && st.Mode&0o066 == 0
	}
	return f, err
}

// Group is the control groups that the container has while it runs.
func (d *Draft) Group() cgroup.Group { return d.groups.Group }

// GroupOf is the control groups that a container which is on disk is going to have, with a keeper.
func GroupOf(c *spec.Container) (cgroup.Group, error) {
	d := &Draft{Spec: c, care: container.Kept}
	err := d.planGroups()
	return d.groups.Group, err
}

// planGroups decides on the cgroups.
func (d *Draft) planGroups() (err error) {
	d.host = cgroup.Detect()
	d.groups, err = cgroup.New(d.host, cgroup.Request{Resources: d.Spec.Resources, ID: string(d.Spec.ID),
		Account: d.host.V1 == nil, Ready: d.kept() || d.Spec.IsSystemd()})
	if err == nil {
		err = d.checkSystemd()
	}
	return err
}

// groupSteps puts the cgroup plan in the words of a launch plan.
func (d *Draft) groupSteps() plan.Groups {
	g := plan.Groups{
		Make:  plan.MakeGroups{Dirs: d.groups.Group, Writes: d.groups.Words()},
		V2:    d.groups.V2,
		Enter: d.groups.Enter,
	}
	if d.host.V1 == nil && d.host.V2.Mount != "" {
		g.Mount = append(g.Mount, plan.MountFS{Type: "cgroup2", Target: "/sys/fs/cgroup",
			ReadOnly: !d.Spec.Security.Privileged && !d.Spec.IsSystemd(), NoSuid: true, NoDev: true, NoExec: true})
	}
	return g
}

func (d *Draft) makeGroups() error {
	d.grouped = true // even if it fails half-way
	if err := d.groups.Make(); err != nil || !d.Spec.IsSystemd() {
		return err
	}
	return d.groups.Group.Delegate(hostID(d.Spec.Namespaces.User.UIDMap), hostID(d.Spec.Namespaces.User.GIDMap))
}

// hostID is the host's id for the container's 0.
func hostID(maps []spec.IDMap) int {
	for _, m := range maps {
		if m.Container == 0 {
			return int(m.Host)
		}
	}
	return 0
}

// checkSystemd refuses to start systemd where it cannot run. Other programs that are called
// init may do without control groups.
func (d *Draft) checkSystemd() error {
	if d.host.V1 == nil || !d.Spec.IsSystemd() || filepath.Base(d.Spec.Process.Args[0]) != "systemd" {
		return nil
	}
	return errs.Newf(errs.Unsupported, "start systemd in container", d.Spec.Name, "it needs cgroup v2, and this host has its controllers in cgroup v1").
		WithHint("boot the host with systemd.unified_cgroup_hierarchy=1, or say --systemd false to start it as any other program")
}

// Launch starts the container by a plan of the draft. It adds to env what only the draft knows: the
// control groups, the volumes, and the files that the user passes on, which are closed then.
func (d *Draft) Launch(p plan.Plan, env launch.Env) (*launch.Process, error) {
	if err := d.settleVolumes(); err != nil {
		return nil, err
	}
	for i, f := range d.Passed.Files {
		env.Files[passedHandle(i)] = f
		defer f.Close()
	}
	env.MakeGroups, env.Seeded = d.makeGroups, d.seeded
	if d.Net != nil {
		env.Connect = d.Net.tell
	}
	if d.other != nil {
		defer d.other.ns.Close()
	}
	return launch.Start(p, env)
}
