package life

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/spec"
)

// ownNamespaces finds which namespaces that are given by paths are this process's own: they are none to
// join. The host's mount namespace is refused, since what a container does in one that it joins, it does
// to all who are in it.
func ownNamespaces(c *spec.Container) error {
	n := &c.Namespaces
	if n.Mount.Mode == spec.Path {
		host, err := same("mnt", "/proc/1", n.Mount.Path)
		if own, e := same("mnt", "/proc/self", n.Mount.Path); e != nil || own {
			n.Mount = spec.Namespace{Mode: spec.Host}
			return e
		}
		if err == nil && host {
			return errs.Newf(errs.Denied, "join mount namespace", n.Mount.Path, "it is the host's, whose root would be changed").
				WithHint(`leave {"type": "mount"} out of linux.namespaces, or have it without a path`)
		}
	}
	if n.User.Path != "" {
		own, err := same("user", "/proc/self", n.User.Path)
		if own {
			n.User = spec.UserNS{Mode: spec.UserHost}
		}
		return err
	}
	return nil
}

// same reports whether a path is the namespace of a process.
func same(kind, process, path string) (bool, error) {
	var a, b unix.Stat_t
	if err := unix.Stat(path, &b); err != nil {
		return false, errs.New(errs.KindOf(err), "find namespace", path, err).WithHint("make it first, or leave its path out of linux.namespaces")
	}
	if err := unix.Stat(process+"/ns/"+kind, &a); err != nil {
		return false, errs.Wrap("find namespace", process+"/ns/"+kind, err)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

// usersOf is the user namespace of a process, proc_pid_uid_map(5).
func usersOf(pid int) (u spec.UserNS, err error) {
	if own, err := same("user", "/proc/self", "/proc/"+strconv.Itoa(pid)+"/ns/user"); err != nil || own {
		return spec.UserNS{Mode: spec.UserHost}, err
	}
	u.Mode = spec.UserMap
	for _, x := range []struct {
		name string
		list *[]spec.IDMap
	}{{"uid_map", &u.UIDMap}, {"gid_map", &u.GIDMap}} {
		text, err := disk.Read("/proc/" + strconv.Itoa(pid) + "/" + x.name)
		if err != nil {
			return u, err
		}
		for line := range strings.Lines(string(text)) {
			var m spec.IDMap
			if _, err := fmt.Sscan(line, &m.Container, &m.Host, &m.Size); err != nil {
				return u, errs.New(errs.Corrupt, "read", x.name, err)
			}
			*x.list = append(*x.list, m)
		}
	}
	return u, nil
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
