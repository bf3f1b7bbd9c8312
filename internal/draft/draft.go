package draft

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/rootfs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// Draft is a container on its way from a request to a plan.
type Draft struct {
	Site   Site
	Spec   *spec.Container
	Box    *container.Container // nil in a dry one
	Claim  uint32               // first host id of its range; 0: none
	Passed Passed

	base    base
	host    cgroup.Host
	groups  cgroup.Plan
	grouped bool // the groups may be there
	kept    bool // it will have a keeper
	volumes []*volume.Volume
	sources []plan.Source
}

// Draft completes a request and, unless dry, makes the container's directory, claims what it
// needs and keeps its image from being removed. A dry draft leaves no trace.
func (s Site) Draft(ctx context.Context, req Request, dry bool) (*Draft, error) {
	d, err := s.outline(ctx, req, dry, false)
	if err != nil {
		return nil, err
	}
	if dry {
		err = d.pretend(ctx)
	} else if err = d.makeBox(); err == nil {
		err = d.claimAll(ctx)
	}
	if err == nil && !dry {
		err = d.holdBase()
	}
	if err != nil {
		d.Discard()
		return nil, err
	}
	return d, nil
}

// outline completes the request from its image.
func (s Site) outline(ctx context.Context, req Request, dry, kept bool) (*Draft, error) {
	d := &Draft{Site: s, Spec: req.Spec, kept: kept, Passed: req.Passed}
	var err error
	if d.base, err = s.base(ctx, req, dry); err != nil {
		return nil, err
	}
	d.complete()
	return d, d.planGroups()
}

// Group is the control groups that the container has while it runs.
func (d *Draft) Group() cgroup.Group { return d.groups.Group }

// GroupOf is the control groups that a container which is on disk is going to have, with a keeper.
func GroupOf(c *spec.Container) (cgroup.Group, error) {
	d := &Draft{Spec: c, kept: true}
	err := d.planGroups()
	return d.groups.Group, err
}

// planGroups decides on the cgroups.
func (d *Draft) planGroups() (err error) {
	d.host = cgroup.Detect()
	d.groups, err = cgroup.New(d.host, cgroup.Request{Resources: d.Spec.Resources, ID: string(d.Spec.ID),
		Account: d.host.V1 == nil, Ready: d.kept || d.Spec.IsSystemd()})
	if err == nil {
		err = d.checkSystemd()
	}
	return err
}

// complete fills in identity and what the image says.
func (d *Draft) complete() {
	c := d.Spec
	c.Version, c.Created, c.Image = spec.Version, time.Now().UTC(), d.base.image
	if c.ID == "" {
		c.ID = container.NewID()
	}
	if c.Name == "" {
		c.Name = c.ID.Short()
	}
	c.Complete(d.base.config)
	d.nameVolumes()
	if c.Namespaces.Hostname == "" && c.Namespaces.UTS.New() {
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

// makeBox makes the container's directory and takes its lock and name.
func (d *Draft) makeBox() error {
	box, err := container.Create(d.Site.Dirs, d.Spec, d.groups.Group, d.kept)
	if errs.Is(err, errs.Exists) { // whoever has the name may be dead
		_ = d.Site.Sweep()
		box, err = container.Create(d.Site.Dirs, d.Spec, d.groups.Group, d.kept)
	}
	d.Box = box
	return err
}

// ownFiles is the files that every container on an image has of its own. A platform brings
// its own.
func (d *Draft) ownFiles() ([]plan.File, []plan.Made) {
	if d.Spec.Image.Platform {
		return nil, nil
	}
	name := d.Spec.Namespaces.Hostname
	made := []plan.Made{{Target: "/etc/hostname", Content: name + "\n"}}
	if d.Spec.Namespaces.Net.Mode == spec.Host {
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

// Plan is what is to be done to start the container. Its PID 1 holds the guards for whoever
// looks after it.
func (d *Draft) Plan(guards ...plan.Handle) (plan.Plan, error) {
	layer := rootfs.Layer{Dir: container.Dir(d.Site.Dirs, d.Spec.ID), Volatile: d.Spec.Life.Remove}
	facts, err := d.facts()
	if err != nil {
		return plan.Plan{}, err
	}
	in := plan.Input{
		Container: d.Spec,
		Root:      d.base.root(layer),
		Sources:   d.sources,
		Accounts:  d.base.accounts(),
		Groups:    d.groupSteps(),
		Host:      facts,
		Guards:    guards,
	}
	in.Files, in.Made = d.ownFiles()
	d.serve(&in)
	if in.Filter, err = Filter(d.Site.Dirs.Run, d.Spec.Security); err != nil {
		return plan.Plan{}, err
	}
	p, err := plan.Make(in)
	p.Warnings = append(p.Warnings, d.groups.Warnings...)
	return p, err
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
	return launch.Start(p, env)
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

// Discard gives back what a draft that does not become a container has claimed.
func (d *Draft) Discard() {
	for _, v := range d.volumes {
		_ = v.Close() // those that were not filled are their next user's to fill
	}
	if d.Box == nil {
		return
	}
	if d.notifies() && !d.kept {
		_ = os.RemoveAll(container.KeepDir(d.Site.Dirs, d.Spec.ID))
	}
	var err error
	if d.grouped {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = d.groups.Group.Destroy(ctx)
	}
	if err == nil {
		err = ending.GiveBack(d.Box, d.Claim, true)
	}
	if err != nil {
		d.Box.Abandon() // the next sweep tries again
		return
	}
	_ = d.Box.Remove()
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

// Create makes a container that is not started yet, after a look at what would keep it from
// being started. Its lock is ours.
func (s Site) Create(ctx context.Context, req Request) (*Draft, error) {
	d, err := s.outline(ctx, req, false, true)
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if err := d.makeBox(); err != nil {
		return nil, err
	}
	if err := d.record(); err != nil {
		d.Discard()
		return nil, err
	}
	events.Tell(s.Dirs.Root, d.Spec, "create", nil)
	return d, nil
}

// check finds what would keep the container from being started, as far as that can be known
// now.
func (d *Draft) check(ctx context.Context) error {
	c := *d.Spec
	try := *d
	try.Spec = &c
	if err := try.pretend(ctx); err != nil {
		return err
	}
	_, err := try.Plan()
	return err
}

// record writes down a container that is not started yet.
func (d *Draft) record() error {
	if err := d.holdBase(); err != nil {
		return err
	}
	if err := d.Box.Save(); err != nil {
		return err
	}
	return d.Box.SetState(container.State{Status: container.Created})
}

// holdBase keeps the image from being removed as long as the container is there.
func (d *Draft) holdBase() error {
	if d.base.hold == nil {
		return nil
	}
	return d.base.hold(d.Spec)
}

// Again drafts a container that is on disk, to be started with a keeper.
func (s Site) Again(ctx context.Context, box *container.Container) (*Draft, error) {
	d := &Draft{Site: s, Spec: box.Spec, kept: true, Box: box}
	var err error
	if d.base, err = s.baseOf(ctx, box.Spec, false); err != nil {
		return nil, err
	}
	if err := d.planGroups(); err != nil {
		return nil, err
	}
	return d, d.claimAll(ctx)
}

// baseOf is what a container that is on disk was made on.
func (s Site) baseOf(ctx context.Context, c *spec.Container, dry bool) (base, error) {
	byID := spec.Container{Image: c.Image}
	if !byID.Image.Platform {
		byID.Image.Name = byID.Image.Config // its name may be another's by now
	}
	return s.base(ctx, Request{Spec: &byID, Pull: PullNever}, dry)
}

// Retreat gives back what a start has claimed, but not the container.
func (d *Draft) Retreat() {
	for _, v := range d.volumes {
		_ = v.Close()
	}
	if d.grouped {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = d.groups.Group.Destroy(ctx)
	}
	if d.Claim != 0 {
		_ = container.ReleaseIDs(d.Site.Dirs, d.Spec.ID, d.Claim)
	}
}
