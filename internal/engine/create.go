package engine

import (
	"context"
	"time"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/spec"
)

// Create makes a container and does not start it.
func (e *Engine) Create(ctx context.Context, req RunRequest) (spec.ContainerID, error) {
	d, err := e.create(ctx, req)
	if err != nil {
		return "", advise(err)
	}
	return d.c.ID, advise(d.box.Unlock())
}

// RunDetached makes a container and starts it with a keeper. One that cannot be started is
// not kept.
func (e *Engine) RunDetached(ctx context.Context, req RunRequest) (spec.ContainerID, error) {
	d, err := e.create(ctx, req)
	if err != nil {
		return "", advise(err)
	}
	if err := e.startKept(ctx, d.box, ByRun); err != nil {
		return "", advise(err)
	}
	soon := time.Now().Add(time.Millisecond)
	container.ForgetGone(e.dirs(), func() bool { return time.Now().After(soon) })
	return d.c.ID, advise(e.sweep())
}

// create makes a container on disk; the lock is ours.
func (e *Engine) create(ctx context.Context, req RunRequest) (*draft, error) {
	d, err := e.outline(ctx, req, false, true)
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
		d.discard()
		return nil, err
	}
	e.tell(d.c, "create", nil)
	return d, nil
}

// check finds what would keep the container from being started, as far as that can be known
// now.
func (d *draft) check(ctx context.Context) error {
	c := *d.c
	try := *d
	try.c = &c
	if err := try.pretend(ctx); err != nil {
		return err
	}
	_, err := try.plan()
	return err
}

// record writes down a container that is not started yet.
func (d *draft) record() error {
	if err := d.holdBase(); err != nil {
		return err
	}
	if err := d.box.Save(); err != nil {
		return err
	}
	return d.box.SetState(container.State{Status: container.Created})
}

// holdBase keeps the image from being removed as long as the container is there.
func (d *draft) holdBase() error {
	if d.base.hold == nil {
		return nil
	}
	return d.base.hold(d.c)
}

// again drafts a container that is on disk.
func (e *Engine) again(ctx context.Context, box *container.Container) (*draft, error) {
	d := &draft{e: e, c: box.Spec, kept: true, box: box}
	var err error
	if d.base, err = e.baseOf(ctx, box.Spec); err != nil {
		return nil, err
	}
	if err := d.planGroups(); err != nil {
		return nil, err
	}
	return d, d.claimAll(ctx)
}

// baseOf is what a container that is on disk was made on.
func (e *Engine) baseOf(ctx context.Context, c *spec.Container) (base, error) {
	byID := spec.Container{Image: c.Image}
	if !byID.Image.Platform {
		byID.Image.Name = byID.Image.Config // its name may be another's by now
	}
	return e.base(ctx, RunRequest{Spec: &byID, Pull: PullNever}, false)
}
