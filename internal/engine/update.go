package engine

import (
	"context"
	"os"
	"slices"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/spec"
)

// UpdateContainer changes limits and restart policy of a container, which may be running: the
// kernel is asked first, and what it refuses is not written down.
func (e *Engine) UpdateContainer(ctx context.Context, ref string, change func(*spec.Container) error) ([]string, error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	var warnings []string
	err = container.Edit(e.dirs(), s.Spec.ID, func(c *spec.Container) error {
		before := ratesOf(c)
		if err := change(c); err != nil {
			return err
		}
		limited := !slices.Equal(before, ratesOf(c))
		if limited && nest.Inside() { // it could not be started again
			return errs.Newf(errs.Unsupported, "", "", "only root of the host may shape traffic").WithHint("leave --network-opt out")
		}
		if s.State.Status != container.Running {
			return nil
		}
		limits := c.Resources
		limits.Devices = nil // they stay as they are
		p, err := cgroup.Update(cgroup.Detect(), s.State.Groups, limits)
		if err != nil {
			return err
		}
		warnings = p.Warnings
		if err = p.Apply(); err != nil && groupsGone(s.State.Groups) { // it has just ended: this is for its next start
			return nil
		}
		if err == nil && limited {
			err = e.limitTraffic(ctx, c, s.State.PID)
		}
		return err
	})
	if err != nil {
		return nil, errs.Wrap("update container", s.Spec.Name, err)
	}
	e.tell(s.Spec, "update", nil)
	return warnings, nil
}

// ratesOf is the limits of a container's interfaces, and of those that have none of their own.
func ratesOf(c *spec.Container) []spec.Rate {
	rates := []spec.Rate{c.Networking.Rate}
	for _, a := range c.Networking.Attachments {
		rates = append(rates, a.Rate)
	}
	return rates
}

func groupsGone(dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		_, err := os.Stat(dir)
		return container.Gone(err)
	})
}
