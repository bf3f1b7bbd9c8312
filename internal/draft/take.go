package draft

import (
	"context"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// PlanOf is the plan that a container which is on disk would be started by, as far as that can be known without a start.
func (s Site) PlanOf(ctx context.Context, c *spec.Container) (plan.Plan, error) {
	x := *c
	d := &Draft{Site: s, Spec: &x, care: container.Kept}
	var err error
	if d.base, err = s.baseOf(ctx, c, false); err != nil {
		return plan.Plan{}, err
	}
	if err := d.planGroups(); err != nil {
		return plan.Plan{}, err
	}
	if err := d.pretend(ctx); err != nil {
		return plan.Plan{}, err
	}
	return d.Plan()
}

// TakeOver makes a container of a description that was completed elsewhere. Its image is brought, if it is not here. Who
// calls it has its lock.
func (s Site) TakeOver(ctx context.Context, req Request) (*Draft, error) {
	c := req.Spec
	byID := *req.Spec
	byID.Image.Name = c.Image.Config
	local := req
	local.Spec, local.Pull = &byID, PullNever
	b, err := s.base(ctx, local, false)
	if errs.Is(err, errs.NotFound) {
		b, err = s.base(ctx, req, false)
	}
	if err != nil {
		return nil, err
	}
	if b.image.Config != c.Image.Config {
		return nil, errs.Newf(errs.Invalid, "take over container", c.Name, "its image "+c.Image.Name+" is another one here").
			WithHint("bring the one with the id " + c.Image.Config + " first: corten pull it by its digest, or corten load it")
	}
	b.image.Name = c.Image.Name
	c.Image = b.image
	d := &Draft{Site: s, Spec: c, care: container.Fresh, base: b}
	if err := d.planGroups(); err != nil {
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
	events.Tell(s.Dirs.Root, c, "create", nil)
	return d, nil
}
