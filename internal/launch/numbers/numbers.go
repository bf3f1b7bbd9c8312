// Package numbers has the kernel's numbers for the words of plans.
package numbers

import (
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
)

// Namespace is the CLONE_NEW flag of a namespace's name.
func Namespace(name string) (uintptr, error) {
	switch name {
	case "user":
		return unix.CLONE_NEWUSER, nil
	case "mount":
		return unix.CLONE_NEWNS, nil
	case "pid":
		return unix.CLONE_NEWPID, nil
	case "net":
		return unix.CLONE_NEWNET, nil
	case "ipc":
		return unix.CLONE_NEWIPC, nil
	case "uts":
		return unix.CLONE_NEWUTS, nil
	case "cgroup":
		return unix.CLONE_NEWCGROUP, nil
	case "time":
		return unix.CLONE_NEWTIME, nil
	}
	return 0, errs.Newf(errs.Internal, "look up namespace", name, "no such namespace")
}

// Attrs is the attributes of a mount.
func Attrs(ro, nosuid, nodev, noexec bool) uintptr {
	var a uintptr
	for _, x := range []struct {
		on  bool
		bit uintptr
	}{{ro, unix.MOUNT_ATTR_RDONLY}, {nosuid, unix.MOUNT_ATTR_NOSUID}, {nodev, unix.MOUNT_ATTR_NODEV}, {noexec, unix.MOUNT_ATTR_NOEXEC}} {
		if x.on {
			a |= x.bit
		}
	}
	return a
}

// Attr is an attribute of a mount by the option that sets it.
func Attr(name string) uintptr {
	switch name {
	case "ro":
		return unix.MOUNT_ATTR_RDONLY
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID
	case "nodev":
		return unix.MOUNT_ATTR_NODEV
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME
	case "strictatime":
		return unix.MOUNT_ATTR_STRICTATIME
	case "nodiratime":
		return unix.MOUNT_ATTR_NODIRATIME
	case "nosymfollow":
		return unix.MOUNT_ATTR_NOSYMFOLLOW
	}
	return 0 // relatime is what a mount does by itself
}

// Propagation is how mounts show elsewhere, as mount(2) and mount_setattr(2) have it.
func Propagation(mode string) uint64 {
	switch mode {
	case "private":
		return unix.MS_PRIVATE
	case "slave":
		return unix.MS_SLAVE
	case "shared":
		return unix.MS_SHARED
	case "unbindable":
		return unix.MS_UNBINDABLE
	}
	return 0
}

// Caps is capabilities as a mask.
func Caps(names []string) (uint64, error) {
	var m uint64
	for _, n := range names {
		v, ok := plan.CapNumber(n)
		if !ok {
			return 0, errs.Newf(errs.Invalid, "look up capability", n, "no such capability").
				WithHint("capabilities(7) lists them")
		}
		m |= 1 << v
	}
	return m, nil
}

// Change sets and clears attributes of a mount. When access times are kept is one value of three, which
// is set by clearing all of it first.
func Change(set, clear []string) (attr unix.MountAttr) {
	for _, name := range clear {
		attr.Attr_clr |= uint64(Attr(name))
	}
	for _, name := range set {
		attr.Attr_set |= uint64(Attr(name))
		if name == "relatime" {
			attr.Attr_clr |= unix.MOUNT_ATTR__ATIME
		}
	}
	if (attr.Attr_set|attr.Attr_clr)&unix.MOUNT_ATTR__ATIME != 0 {
		attr.Attr_clr |= unix.MOUNT_ATTR__ATIME
	}
	return attr
}
