package draft

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/quota"
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
	Net    *Connection // nil: it is on no network

	base    base
	host    cgroup.Host
	groups  cgroup.Plan
	grouped bool // the groups may be there
	care    container.Care
	volumes []*volume.Volume
	sources []plan.Source
	other   *other // nil: its network is its own, or the host's
}

// Draft completes a request, makes the container's directory, claims what it needs and keeps its
// image from being removed.
func (s Site) Draft(ctx context.Context, req Request) (*Draft, error) {
	d, err := s.outline(ctx, req, false, container.Tied)
	if err != nil {
		return nil, err
	}
	if err = d.makeBox(); err == nil {
		err = d.Box.LimitDisk()
	}
	if err == nil {
		err = d.claimAll(ctx)
	}
	if err == nil {
		err = d.holdBase()
	}
	if err != nil {
		d.Discard()
		return nil, err
	}
	return d, nil
}

// Dry is a draft that leaves no trace. It can be planned, and says in place of what it would claim
// what that is likely to be. An image that is not here is an error of kind NotFound.
func (s Site) Dry(ctx context.Context, req Request) (*Draft, error) {
	d, err := s.outline(ctx, req, true, container.Tied)
	if err != nil {
		return nil, err
	}
	return d, d.pretend(ctx)
}

// Create makes a container that is not started yet, after a look at what would keep it from
// being started. Whoever calls it has its lock.
func (s Site) Create(ctx context.Context, req Request, care container.Care) (*Draft, error) {
	d, err := s.outline(ctx, req, false, care)
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if err := d.makeBox(); err != nil {
		return nil, err
	}
	err = d.Box.LimitDisk()
	if err == nil {
		err = d.record()
	}
	if err != nil {
		d.Discard()
		return nil, err
	}
	events.Tell(s.Dirs.Root, d.Spec, "create", nil)
	return d, nil
}

// Again drafts a container that is on disk, to be started with a keeper.
func (s Site) Again(ctx context.Context, box *container.Container) (*Draft, error) {
	d := &Draft{Site: s, Spec: box.Spec, care: container.Kept, Box: box}
	var err error
	if d.base, err = s.baseOf(ctx, box.Spec, false); err != nil {
		return nil, err
	}
	if err := d.unseal(); err != nil {
		return nil, err
	}
	if err := d.planGroups(); err != nil {
		return nil, err
	}
	if err := box.LimitDisk(); err != nil {
		return nil, err
	}
	return d, d.claimAll(ctx)
}

// unseal writes down that the container begins to run on a tree without seals, as after its store
// was moved: from then on it may have files of which no seal is known.
func (d *Draft) unseal() error {
	if !d.Spec.Image.Sealed || d.base.image.Sealed {
		return nil
	}
	d.Spec.Image.Sealed = false
	return container.Edit(d.Site.Dirs, d.Spec.ID, func(c *spec.Container) error {
		c.Image.Sealed = false
		return nil
	})
}

// kept reports whether it will have a keeper.
func (d *Draft) kept() bool { return d.care != container.Tied }

// outline completes the request from its image.
func (s Site) outline(ctx context.Context, req Request, dry bool, care container.Care) (*Draft, error) {
	d := &Draft{Site: s, Spec: req.Spec, care: care, Passed: req.Passed}
	var err error
	if d.base, err = s.base(ctx, req, dry); err != nil {
		return nil, err
	}
	d.complete()
	if err := d.joinOther(); err != nil {
		return nil, err
	}
	return d, d.planGroups()
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
	box, err := container.Create(d.Site.Dirs, d.Spec, d.groups.Group, d.care)
	if errs.Is(err, errs.Exists) { // whoever has the name may be dead
		_ = d.Site.Sweep()
		box, err = container.Create(d.Site.Dirs, d.Spec, d.groups.Group, d.care)
	}
	d.Box = box
	return err
}

// claimAll claims a range of ids and finds what is mounted.
func (d *Draft) claimAll(ctx context.Context) error {
	if err := d.mapUsers(); err != nil {
		return err
	}
	if err := errors.Join(d.connect(), d.openOther()); err != nil {
		return err
	}
	return d.findSources(ctx, false)
}

// pretend fills in what claimAll would, without touching anything.
func (d *Draft) pretend(ctx context.Context) error {
	if d.Spec.Root.Size > 0 {
		if err := quota.Check(d.Site.Dirs.Root); err != nil {
			return err
		}
	}
	if err := d.mapUsers(); err != nil {
		return err
	}
	if err := d.likely(); err != nil {
		return err
	}
	return d.findSources(ctx, true)
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

// Discard gives back what a draft that does not become a container has claimed.
func (d *Draft) Discard() {
	for _, v := range d.volumes {
		_ = v.Close() // those that were not filled are their next user's to fill
	}
	if d.Box == nil {
		return
	}
	if d.notifies() && d.care == container.Tied {
		_ = os.RemoveAll(container.KeepDir(d.Site.Dirs, d.Spec.ID))
	}
	var err error
	if d.grouped {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = d.groups.Group.Destroy(ctx)
	}
	if err == nil {
		err = errors.Join(d.Net.End(), ending.GiveBack(d.Box, d.Claim, true))
	}
	if err != nil {
		d.Box.Abandon() // the next sweep tries again
		return
	}
	_ = d.Box.Remove()
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
	_ = d.Net.End()
	if d.Claim != 0 {
		_ = container.ReleaseIDs(d.Site.Dirs, d.Spec.ID, d.Claim)
	}
}
