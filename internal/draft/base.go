package draft

import (
	"context"
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/platform"
	"github.com/cortenhq/corten/internal/rootfs"
	"github.com/cortenhq/corten/internal/spec"
)

// base is what a container is made on: an image or a platform.
type base struct {
	image    spec.Image
	config   oci.Config
	root     func(rootfs.Layer) plan.Root
	accounts func() plan.Accounts
	hold     func(*spec.Container) error // keeps it from being removed; nil: nobody can remove it
}

// base finds what the request names; dry, it makes and fetches nothing.
func (s Site) base(ctx context.Context, req Request, dry bool) (base, error) {
	if req.Spec.Image.Name == platform.HostName {
		return s.hostBase(dry)
	}
	return s.imageBase(ctx, req, dry)
}

// hostBase is the host's own root.
func (s Site) hostBase(dry bool) (base, error) {
	find, rootOf := platform.Host, rootfs.Host
	if nest.Inside() {
		find, rootOf = platform.HostOfUser, rootfs.HostOfUser
	}
	host, err := find(filepath.Join(s.Dirs.Root, "platforms", "host"), platform.MaskList, dry, s.Dirs.Root, s.Dirs.Run)
	if err != nil {
		return base{}, err
	}
	return base{
		image: spec.Image{Name: platform.HostName, Platform: true},
		root:  func(l rootfs.Layer) plan.Root { return rootOf(host.Mask, host.Binds, l) },
		accounts: func() plan.Accounts {
			passwd, _ := os.ReadFile("/etc/passwd")
			group, _ := os.ReadFile("/etc/group")
			return plan.Accounts{Passwd: passwd, Group: group}
		},
	}, nil
}

// Root is what the root of a container that exists is made of.
func (s Site) Root(ctx context.Context, c *spec.Container) (plan.Root, error) {
	b, err := s.baseOf(ctx, c, false)
	if err != nil {
		return plan.Root{}, err
	}
	return b.root(s.layer(c.ID)), nil
}

// baseOf is what a container that is on disk was made on.
func (s Site) baseOf(ctx context.Context, c *spec.Container, dry bool) (base, error) {
	byID := spec.Container{Image: c.Image}
	if !byID.Image.Platform {
		byID.Image.Name = byID.Image.Config // its name may be another's by now
	}
	return s.base(ctx, Request{Spec: &byID, Pull: PullNever}, dry)
}

// layer is the writable layer of a container.
func (s Site) layer(id spec.ContainerID) rootfs.Layer {
	return rootfs.Layer{Dir: container.Dir(s.Dirs, id), User: nest.Inside()}
}
