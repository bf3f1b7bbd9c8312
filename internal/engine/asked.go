package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/spec"
)

// Asked is what a user asked for who got this container: its description without what the
// image and Corten have filled in since. Making a container of it gives an equal one, of
// whatever the image is by then. The other one is the container as it is.
func (e *Engine) Asked(ctx context.Context, ref string) (asked, is *spec.Container, err error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	c, err := container.ReadSpec(e.dirs(), s.Spec.ID)
	if err != nil {
		return nil, nil, err
	}
	byID := spec.Container{Image: c.Image}
	if !byID.Image.Platform {
		byID.Image.Name = byID.Image.Config
	}
	b, err := e.base(ctx, RunRequest{Spec: &byID, Pull: PullNever}, true)
	if err != nil {
		return nil, nil, err
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
	return c, s.Spec, nil
}
