package container

import (
	"path/filepath"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/quota"
	"github.com/cortenhq/corten/internal/spec"
)

// owner is a container as the owner of a project.
func owner(id spec.ContainerID) string { return "containers/" + string(id) }

// LimitDisk has the kernel see to it that the writable layer takes no more than the
// description says. Overlayfs makes files in work and moves them to upper, so both are of one
// project; the log beside them is not. Each start asks for it again: the limit may have been
// lost, and must not be ignored.
func (x *Container) LimitDisk() error {
	if x.Spec.Root.Size == 0 {
		return nil
	}
	const room = 512 << 10 // bytes; for what overlayfs makes when it is mounted
	dirs := []string{filepath.Join(x.Dir(), "upper"), filepath.Join(x.Dir(), "work")}
	return errs.Wrap("limit the disk of container", x.Spec.Name, quota.Limit(x.dirs.Root, owner(x.Spec.ID), dirs, x.Spec.Root.Size, room))
}
