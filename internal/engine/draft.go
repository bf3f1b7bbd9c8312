package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/rootfs"
	"github.com/cortenhq/corten/internal/seccomp"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// draft is a container on its way from a request to a plan.
type draft struct {
	e       *Engine
	c       *spec.Container
	base    base
	host    cgroup.Host
	groups  cgroup.Plan
	grouped bool          // the groups may be there
	kept    bool          // it will have a keeper
	guards  []plan.Handle // what its PID 1 holds for the keeper
	box     *container.Container
	claim   uint32 // first host id of its range; 0: none
	volumes []*volume.Volume
	sources []plan.Source
	passed  Passed
}

// draft completes the request and, unless dry, makes the container's directory and claims
// what it needs. A dry draft leaves no trace.
func (e *Engine) draft(ctx context.Context, req RunRequest, dry bool) (*draft, error) {
	d, err := e.outline(ctx, req, dry, false)
	if err != nil {
		return nil, err
	}
	if dry {
		err = d.pretend(ctx)
	} else if err = d.makeBox(); err == nil {
		err = d.claimAll(ctx)
	}
	if err != nil {
		d.discard()
		return nil, err
	}
	return d, nil
}

// outline completes the request from its image.
func (e *Engine) outline(ctx context.Context, req RunRequest, dry, kept bool) (*draft, error) {
	d := &draft{e: e, c: req.Spec, kept: kept, passed: req.Passed}
	var err error
	if d.base, err = e.base(ctx, req, dry); err != nil {
		return nil, err
	}
	d.complete()
	return d, d.planGroups()
}

// planGroups decides on the cgroups.
func (d *draft) planGroups() (err error) {
	d.host = cgroup.Detect()
	d.groups, err = cgroup.New(d.host, cgroup.Request{Resources: d.c.Resources, ID: string(d.c.ID),
		Account: d.host.V1 == nil, Ready: d.kept || d.c.IsSystemd()})
	if err == nil {
		err = d.checkSystemd()
	}
	return err
}

// complete fills in identity and what the image says.
func (d *draft) complete() {
	c := d.c
	c.Version, c.Created, c.Image = spec.Version, time.Now().UTC(), d.base.image
	if c.ID == "" {
		c.ID = container.NewID()
	}
	if c.Name == "" {
		c.Name = c.ID.Short()
	}
	c.Complete(d.base.config)
	d.nameVolumes()
	if c.Namespaces.Hostname == "" && fresh(c.Namespaces.UTS) {
		c.Namespaces.Hostname = c.ID.Short()
	}
	if !c.Security.Privileged {
		c.Resources.Devices = deviceRules(c)
	}
}

// deviceRules is what a container may do with devices: the harmless ones, those it was
// given, and last, since the last rule decides, what the user says about them.
func deviceRules(c *spec.Container) []spec.DeviceRule {
	rules := cgroup.DefaultDevices()
	for _, dev := range c.Devices {
		major, minor := int64(dev.Major), int64(dev.Minor)
		rules = append(rules, spec.DeviceRule{Allow: true, Type: dev.Type, Major: &major, Minor: &minor, Access: dev.Access})
	}
	return append(rules, c.Resources.Devices...)
}

func fresh(ns spec.Namespace) bool { return ns.Mode == spec.Private || ns.Mode == spec.Shareable }

// makeBox makes the container's directory and takes its lock and name.
func (d *draft) makeBox() error {
	box, err := container.Create(d.e.dirs(), d.c, d.groups.Group, d.kept)
	if errs.Is(err, errs.Exists) { // whoever has the name may be dead
		_ = d.e.sweep()
		box, err = container.Create(d.e.dirs(), d.c, d.groups.Group, d.kept)
	}
	d.box = box
	return err
}

// claimAll claims a range of ids and finds what is mounted.
func (d *draft) claimAll(ctx context.Context) (err error) {
	if d.c.Namespaces.User.Mode == spec.UserAuto {
		if d.claim, err = container.ClaimIDs(d.e.dirs(), d.c.ID); err != nil {
			return err
		}
		d.mapIDs(d.claim)
	}
	if err := d.resolveUser(); err != nil {
		return err
	}
	return d.findSources(ctx, false)
}

// pretend fills in what claimAll would, without touching anything.
func (d *draft) pretend(ctx context.Context) error {
	if d.c.Namespaces.User.Mode == spec.UserAuto {
		d.mapIDs(container.LikelyIDs(d.c.ID))
	}
	if err := d.resolveUser(); err != nil {
		return err
	}
	return d.findSources(ctx, true)
}

func (d *draft) mapIDs(host uint32) {
	m := container.Map(host)
	d.c.Namespaces.User.UIDMap, d.c.Namespaces.User.GIDMap = m, m
}

// resolveUser makes the map of --userns keep-id: the caller's ids stay, all others come
// from the container's own range.
func (d *draft) resolveUser() error {
	u := &d.c.Namespaces.User
	switch u.Mode {
	case spec.UserKeepID:
		if os.Getuid() == 0 {
			return errs.Newf(errs.Invalid, "map users", "keep-id", "the caller is root, and would be root of the host inside").
				WithHint("leave --userns out, or say --userns host if that is what you want")
		}
		var err error
		if d.claim == 0 && d.box != nil {
			if d.claim, err = container.ClaimIDs(d.e.dirs(), d.c.ID); err != nil {
				return err
			}
		}
		base := d.claim
		if base == 0 {
			base = container.LikelyIDs(d.c.ID)
		}
		uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
		u.UIDMap, u.GIDMap = container.KeepMap(base, uid), container.KeepMap(base, gid)
		if d.c.Process.User == "" {
			d.c.Process.User = countWords(int64(uid)) + ":" + countWords(int64(gid))
		}
	case spec.UserMap:
		if len(u.UIDMap) == 0 || len(u.GIDMap) == 0 {
			return errs.Newf(errs.Invalid, "map users", "", "both a uid and a gid map are wanted")
		}
	}
	return nil
}

// ownFiles is the files that every container on an image has of its own. A platform brings
// its own.
func (d *draft) ownFiles() ([]plan.File, []plan.Made) {
	if d.c.Image.Platform {
		return nil, nil
	}
	name := d.c.Namespaces.Hostname
	made := []plan.Made{{Target: "/etc/hostname", Content: name + "\n"}}
	if d.c.Namespaces.Net.Mode == spec.Host {
		return []plan.File{hostFile("/etc/hosts"), hostFile("/etc/resolv.conf")}, made
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if name != "" {
		hosts += "127.0.1.1\t" + name + "\n"
	}
	return nil, append(made, plan.Made{Target: "/etc/hosts", Content: hosts})
}

// hostFile shows a file of the host to a container in the host's network.
func hostFile(path string) plan.File {
	return plan.File{Source: plan.Source{Path: path, File: true}, Target: path, ReadOnly: true, What: "the host's " + path}
}

// plan makes the plan of the draft.
func (d *draft) plan() (plan.Plan, error) {
	layer := rootfs.Layer{Dir: container.Dir(d.e.dirs(), d.c.ID), Volatile: d.c.Life.Remove}
	facts, err := d.facts()
	if err != nil {
		return plan.Plan{}, err
	}
	in := plan.Input{
		Container: d.c,
		Root:      d.base.root(layer),
		Sources:   d.sources,
		Accounts:  d.accounts(),
		Groups:    d.groupSteps(),
		Host:      facts,
		Guards:    d.guards,
	}
	in.Files, in.Made = d.ownFiles()
	d.serve(&in)
	if in.Filter, err = d.e.filter(d.c.Security); err != nil {
		return plan.Plan{}, err
	}
	p, err := plan.Make(in)
	p.Warnings = append(p.Warnings, d.groups.Warnings...)
	return p, err
}

// facts asks the host only what this container depends on.
func (d *draft) facts() (plan.Facts, error) {
	f, err := modules(d.c.Security)
	f.Tied = !d.kept
	if err == nil && !d.c.Life.NoInit {
		f.Init, err = helper("corten-init")
		var st unix.Stat_t
		f.Hidden = err == nil && unix.Stat(f.Init, &st) == nil && st.Uid == 0 && st.Gid == 0 && st.Mode&0o066 == 0
	}
	return f, err
}

// modules asks for the security modules that a container has labels for.
func modules(sec spec.Security) (f plan.Facts, err error) {
	if sec.AppArmor != "" && sec.AppArmor != "unconfined" {
		b, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		if f.AppArmor = strings.HasPrefix(string(b), "Y"); !f.AppArmor {
			return f, noModule("apparmor=" + sec.AppArmor)
		}
	}
	if sec.SELinux != "" || sec.SELinuxMount != "" {
		_, err := os.Stat("/sys/fs/selinux/enforce")
		if f.SELinux = err == nil; !f.SELinux {
			return f, noModule("label of SELinux")
		}
	}
	return f, nil
}

func noModule(what string) error {
	return errs.Newf(errs.Unsupported, "apply --security-opt", what, "the security module is not active on this host").
		WithHint("leave the option out, or boot with the module: corten doctor says how")
}

// accounts reads the container's passwd and group only if a name has to be looked up or a
// home found in them.
func (d *draft) accounts() plan.Accounts { return d.base.accounts() }

// groupSteps puts the cgroup plan in the words of a launch plan.
func (d *draft) groupSteps() plan.Groups {
	g := plan.Groups{
		Make:  plan.MakeGroups{Dirs: d.groups.Group, Writes: d.groups.Words()},
		V2:    d.groups.V2,
		Enter: d.groups.Enter,
	}
	if d.host.V1 == nil && d.host.V2.Mount != "" {
		g.Mount = append(g.Mount, plan.MountFS{Type: "cgroup2", Target: "/sys/fs/cgroup",
			ReadOnly: !d.c.Security.Privileged && !d.c.IsSystemd(), NoSuid: true, NoDev: true, NoExec: true})
	}
	return g
}

func (d *draft) makeGroups() error {
	d.grouped = true // even if it fails half-way
	if err := d.groups.Make(); err != nil || !d.c.IsSystemd() {
		return err
	}
	return d.groups.Group.Delegate(hostID(d.c.Namespaces.User.UIDMap), hostID(d.c.Namespaces.User.GIDMap))
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

// filter compiles the seccomp profile of a container, or finds it compiled.
func (e *Engine) filter(sec spec.Security) (*plan.Filter, error) {
	if sec.Unconfined || sec.Privileged {
		return nil, nil
	}
	dir := filepath.Join(e.cfg.Run, "seccomp")
	name, prog, err := "default", seccomp.Program{}, error(nil)
	if sec.Seccomp == nil {
		prog, err = seccomp.DefaultCached(dir, sec.Capabilities, seccomp.Host)
	} else {
		name = "of the user"
		prog, err = seccomp.Cached(dir, sec.Seccomp, seccomp.Host)
	}
	if err != nil {
		return nil, err
	}
	f := &plan.Filter{Name: name, Flags: prog.Flags, Program: make([]plan.Instruction, len(prog.Insns))}
	for i, in := range prog.Insns {
		f.Program[i] = plan.Instruction(in)
	}
	return f, nil
}

// discard gives back what a draft that does not become a container has claimed.
func (d *draft) discard() {
	for _, v := range d.volumes {
		_ = v.Close() // those that were not filled are their next user's to fill
	}
	if d.box == nil {
		return
	}
	if d.notifies() && !d.kept {
		_ = os.RemoveAll(container.KeepDir(d.e.dirs(), d.c.ID))
	}
	var err error
	if d.grouped {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = destroyGroup(ctx, d.groups.Group)
	}
	if err == nil {
		err = giveBack(d.box, d.claim, true)
	}
	if err != nil {
		d.box.Abandon() // the next sweep tries again
		return
	}
	_ = d.box.Remove()
}

// exists reports whether a path is there, and whether it is something else than a
// directory.
func exists(path string) (there, file bool, err error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); err {
	case nil:
		return true, st.Mode&unix.S_IFMT != unix.S_IFDIR, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, false, nil
	default:
		return false, false, err
	}
}
