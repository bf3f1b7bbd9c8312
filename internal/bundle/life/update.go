package life

import (
	"encoding/json"
	"maps"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/cgroup/scope"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Update changes limits of a container. What has no effect here is said, and is no error: engines hand
// over all that they know of.
func Update(root, id string, r spec.Resources, warn func(string)) error {
	return with(root, id, func(place record.Place, s *record.State, status record.Status) error {
		if status == record.Stopped || status == record.Creating {
			return not("update", id, status, "only one that is created or runs can be")
		}
		if err := described(place, s); err != nil {
			return err
		}
		before := &s.Container.Resources
		p, err := cgroup.Update(detect(), s.Groups, complete(*before, r))
		if err != nil {
			return err
		}
		for _, w := range p.Warnings {
			warn(w)
		}
		if err := p.Apply(); err != nil {
			return err
		}
		if err := tellSystemd(s.Scope, p); err != nil {
			return err
		}
		remember(before, r)
		if s.Besides.Limits, err = json.Marshal(before); err != nil {
			return errs.New(errs.Internal, "update container", id, err)
		}
		return place.Save(s)
	})
}

// complete adds to new limits those old ones that the kernel takes in one write with them: a period with
// its quota, and memory and swap, which v2 counts apart.
func complete(old, r spec.Resources) spec.Resources {
	c, m := &r.CPU, &r.Memory
	if c.Period != 0 && c.Quota == 0 {
		c.Quota = old.CPU.Quota
	}
	if c.Quota != 0 && c.Period == 0 {
		c.Period = old.CPU.Period
	}
	if m.Swap > 0 && m.Limit == 0 {
		m.Limit = old.Memory.Limit
	}
	if m.Limit > 0 && m.Swap == 0 {
		m.Swap = old.Memory.Swap
	}
	return r
}

// remember takes over what new limits say, for the next ones.
func remember(old *spec.Resources, r spec.Resources) {
	set(&old.Memory.Limit, r.Memory.Limit)
	set(&old.Memory.Swap, r.Memory.Swap)
	set(&old.Memory.Reservation, r.Memory.Reservation)
	set(&old.CPU.Shares, r.CPU.Shares)
	set(&old.CPU.Quota, r.CPU.Quota)
	set(&old.CPU.Period, r.CPU.Period)
	set(&old.CPU.Burst, r.CPU.Burst)
	set(&old.CPU.Idle, r.CPU.Idle)
	set(&old.CPU.Cpus, r.CPU.Cpus)
	set(&old.CPU.Mems, r.CPU.Mems)
	set(&old.Pids.Limit, r.Pids.Limit)
	set(&old.BlockIO.Weight, r.BlockIO.Weight)
	if len(r.Unified) > 0 {
		old.Unified = maps.Clone(old.Unified)
		if old.Unified == nil {
			old.Unified = map[string]string{}
		}
		maps.Copy(old.Unified, r.Unified)
	}
}

func set[T comparable](old *T, value T) {
	var none T
	if value != none {
		*old = value
	}
}

// tellSystemd tells it of limits that a scope has now, for it to keep them.
func tellSystemd(unit string, p cgroup.Plan) error {
	limits := scope.Limits(p)
	if unit == "" || len(limits) == 0 {
		return nil
	}
	m, err := manager()
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Set(unit, limits)
}
