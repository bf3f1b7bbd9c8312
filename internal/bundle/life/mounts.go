package life

import (
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/spec"
)

// ownMounts looks whose mount namespace a path is: what a container does in one that it joins, it does to
// all who are in it. This process's own is none that it would join.
func ownMounts(c *spec.Container) error {
	n := &c.Namespaces.Mount
	if n.Mode != spec.Path {
		return nil
	}
	var own, host, theirs unix.Stat_t
	if err := unix.Stat(n.Path, &theirs); err != nil {
		return errs.New(errs.KindOf(err), "find mount namespace", n.Path, err).WithHint("make it first, or leave its path out of linux.namespaces")
	}
	if unix.Stat("/proc/self/ns/mnt", &own) == nil && own.Dev == theirs.Dev && own.Ino == theirs.Ino {
		*n = spec.Namespace{Mode: spec.Host}
		return nil
	}
	if unix.Stat("/proc/1/ns/mnt", &host) == nil && host.Dev == theirs.Dev && host.Ino == theirs.Ino {
		return errs.Newf(errs.Denied, "join mount namespace", n.Path, "it is the host's, whose root would be changed").
			WithHint(`leave {"type": "mount"} out of linux.namespaces, or have it without a path`)
	}
	return nil
}

// unmountRoot takes away the root of a container that had it mounted in this process's own mount
// namespace, if it is still there.
func unmountRoot(s *record.State) error {
	if s.Besides.Mount == 0 {
		return nil
	}
	path := s.Rootfs
	if id, err := kernel.MountID(unix.AT_FDCWD, path); err != nil || id != s.Besides.Mount {
		return nil
	}
	return errs.Wrap("unmount", path, unix.Unmount(path, unix.MNT_DETACH))
}
