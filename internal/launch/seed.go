package launch

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/launch/copytree"
	"github.com/cortenhq/corten/internal/plan"
)

// seed copies what the root has at a directory into a new volume. Both sides are seen as
// the container sees them (idmapped mounts), so owners come out right on disk. The source
// is an image's content: it is walked by descriptors and never followed out of the root.
func (h *host) seed(s plan.Seed) error {
	copied := false
	err := asOwner(s.Root, func() error {
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		src, err := kernel.OpenAt2(h.fd(s.From), strings.Trim(s.Target, "/"), how)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return nil // the image has nothing there
		}
		if err != nil {
			return err
		}
		defer unix.Close(src)
		dst, err := unix.Openat(h.fd(s.To), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(dst)
		copied = true
		return copytree.Copy(src, dst)
	})
	if err != nil || h.env.Seeded == nil {
		return err
	}
	return h.env.Seeded(s.Volume, copied)
}
