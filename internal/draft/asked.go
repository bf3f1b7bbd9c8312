package draft

import (
	"context"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/spec"
)

// Asked is what a user asked for who got this container: its description without what the
// image and Corten have filled in since. Making a container of it gives an equal one, of
// whatever the image is by then.
func (s Site) Asked(ctx context.Context, id spec.ContainerID) (*spec.Container, error) {
	c, err := container.ReadSpec(s.Dirs, id)
	if err != nil {
		return nil, err
	}
	b, err := s.baseOf(ctx, c, true)
	if err != nil {
		return nil, err
	}
	if !c.Security.Privileged {
		own := len(cgroup.DefaultDevices()) + len(c.Devices)
		c.Resources.Devices = c.Resources.Devices[min(own, len(c.Resources.Devices)):]
	}
	if c.Namespaces.Hostname == c.ID.Short() {
		c.Namespaces.Hostname = ""
	}
	if u := &c.Namespaces.User; u.Mode != spec.UserMap {
		u.UIDMap, u.GIDMap = nil, nil
	}
	c.Uncomplete(b.config)
	if ns := &c.Namespaces.Net; ns.Mode == spec.Of { // of one that is gone the id stays
		if of, err := container.ReadSpec(s.Dirs, spec.ContainerID(ns.Path)); err == nil {
			ns.Path = of.Name
		}
	}
	return c, nil
}
