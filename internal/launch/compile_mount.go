package launch

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/plan"
)

// mounting compiles the steps that build the container's view of the file system. Until
// Pivot the process still sees the host's tree; whatever an image could have put in the
// way as a symbolic link is resolved inside the container's root (openat2(2)
// RESOLVE_IN_ROOT, Linux 5.6).
func (c *compiler) mounting(s plan.Step) {
	switch s := s.(type) {
	case plan.Propagation:
		flags := uintptr(unix.MS_REC | unix.MS_PRIVATE)
		if s.Mode == "slave" {
			flags = unix.MS_REC | unix.MS_SLAVE
		}
		c.call(unix.SYS_MOUNT, zero, c.text("/"), zero, c.num(flags))
	case plan.Stow:
		// They pile up on a directory of the host's tree that is not looked at again. It may
		// not be its root: of a pile there Pivot would drop the topmost only. EINVAL: the mount
		// was attached elsewhere for the overlay (host.overlayAttached) and went with that place.
		for _, h := range s.Mounts {
			c.call(unix.SYS_MOVE_MOUNT, c.handle(h), c.text(""), c.cwd(), c.text("/dev"), c.num(unix.MOVE_MOUNT_F_EMPTY_PATH)).allow(0, unix.EINVAL)
		}
	case plan.EnterRoot:
		c.root = c.handle(s.Mount)
		c.call(unix.SYS_UMASK, c.num(0o022)) // for the places of mounts that are made on the way
		// Any directory will do to hang the root on: Pivot swaps it with the real root.
		c.call(unix.SYS_MOVE_MOUNT, c.root, c.text(""), c.cwd(), c.text("/"), c.num(unix.MOVE_MOUNT_F_EMPTY_PATH))
		c.call(unix.SYS_FCHDIR, c.root)
	case plan.Attach:
		c.attach(c.handle(s.Mount), c.target(s.Target, s.File))
		if s.Forget != "" {
			c.call(unix.SYS_UNLINKAT, c.handle(s.Forget), c.text(s.Name))
		}
	case plan.MountFS:
		c.mountFS(s)
	case plan.Mask:
		c.mask(s)
	case plan.ReadOnlyPath:
		c.readOnlyPath(s)
	case plan.ReadOnlyRoot:
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		c.call(unix.SYS_MOUNT_SETATTR, c.root, c.text(""), c.num(unix.AT_EMPTY_PATH), point(c.table, attr), c.num(unix.MOUNT_ATTR_SIZE_VER0))
	case plan.Pivot:
		c.call(unix.SYS_FCHDIR, c.root)
		c.call(unix.SYS_PIVOT_ROOT, c.text("."), c.text("."))
		c.call(unix.SYS_UMOUNT2, c.text("."), c.num(unix.MNT_DETACH))
		c.call(unix.SYS_CHDIR, c.text("/"))
	}
}

// attach hangs a detached mount on an open target.
func (c *compiler) attach(mnt, target slot) {
	c.call(unix.SYS_MOVE_MOUNT, mnt, c.text(""), target, c.text(""), c.num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// inRoot opens a path of the container.
func (c *compiler) inRoot(path string, flags uint64) rowRef {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if path == "" {
		path = "."
	}
	return c.call(unix.SYS_OPENAT2, c.root, c.text(path), point(c.table, how), c.num(unix.SizeofOpenHow))
}

// devNull opens the null device of the tmpfs that we made, which lies at /dev if the
// container has no other there. By path an image could lay a link to one of our descriptors
// in the way: they are still open, and some lead to the host.
func (c *compiler) devNull(flags uintptr) rowRef {
	return c.call(unix.SYS_OPENAT, c.handle(plan.DevMount), c.text("null"), c.num(flags|unix.O_NOFOLLOW|unix.O_CLOEXEC))
}

// target opens the place for a mount and makes what is missing of it: two rows for each
// component, since a table cannot ask first.
func (c *compiler) target(path string, file bool) slot {
	path = strings.Trim(path, "/")
	parent := c.root
	if path == "" {
		return c.result(c.inRoot(path, unix.O_PATH))
	}
	done := 0
	for {
		i := strings.IndexByte(path[done:], '/')
		last := i < 0
		end := len(path)
		if !last {
			end = done + i
		}
		name := path[done:end]
		// What is there says so, before the kernel asks whether it could be made.
		if last && file {
			c.call(unix.SYS_MKNODAT, parent, c.text(name), c.num(unix.S_IFREG|0o644)).allow(0, unix.EEXIST)
		} else {
			c.call(unix.SYS_MKDIRAT, parent, c.text(name), c.num(0o755)).allow(0, unix.EEXIST)
		}
		flags := uint64(unix.O_PATH)
		if !last {
			flags |= unix.O_DIRECTORY
		}
		parent = c.result(c.inRoot(path[:end], flags))
		if last {
			return parent
		}
		done = end + 1
	}
}

// newFS makes a mount of a new file system and stores its descriptor in mnt. The first of
// its rows is the one that fails when the kernel lacks the type.
func (c *compiler) newFS(fstype string, options []string, attrs uintptr, mnt slot) (fs slot) {
	fs = c.result(c.call(unix.SYS_FSOPEN, c.text(fstype), c.num(unix.FSOPEN_CLOEXEC)))
	c.call(unix.SYS_FSCONFIG, fs, c.num(unix.FSCONFIG_SET_STRING), c.text("source"), c.text(fstype)) // what df shows
	for _, o := range options {
		if name, value, ok := strings.Cut(o, "="); ok {
			c.call(unix.SYS_FSCONFIG, fs, c.num(unix.FSCONFIG_SET_STRING), c.text(name), c.text(value))
		} else {
			c.call(unix.SYS_FSCONFIG, fs, c.num(unix.FSCONFIG_SET_FLAG), c.text(name))
		}
	}
	c.call(unix.SYS_FSCONFIG, fs, c.num(unix.FSCONFIG_CMD_CREATE))
	c.resultIn(c.call(unix.SYS_FSMOUNT, fs, c.num(unix.FSMOUNT_CLOEXEC), c.num(attrs)), mnt)
	return fs
}

func (c *compiler) mountFS(s plan.MountFS) {
	target := c.target(s.Target, false)
	mnt := c.unset(^uintptr(0))
	open := len(c.rows)
	c.newFS(s.Type, s.Options, mountAttrs(s.ReadOnly, s.NoSuid, s.NoDev, s.NoExec), mnt)
	c.attach(mnt, target)
	if s.Missing {
		c.skipOver(open, unix.ENODEV)
	}
}

// skipOver lets the row at index first fail with these errors, which then leaves out all
// rows after it.
func (c *compiler) skipOver(first int, errnos ...unix.Errno) {
	if c.spent {
		return
	}
	rowRef{&c.rows[first]}.allow(len(c.rows)-first-1, errnos...)
}

func mountAttrs(ro, nosuid, nodev, noexec bool) uintptr {
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

// cloneOf takes a detached copy of what fd is open on.
func (c *compiler) cloneOf(fd slot) slot {
	return c.result(c.call(unix.SYS_OPEN_TREE, fd, c.text(""), c.num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)))
}

// cloneOfEmpty takes a copy of the empty file system. Before Linux 6.15 there is none of a
// detached mount (EINVAL): the first place gets the mount itself, which can be cloned then.
func (c *compiler) cloneOfEmpty() slot {
	first := len(c.rows)
	mnt := c.cloneOf(c.masks.empty)
	jump := c.call(unix.SYS_CLOSE, c.num(^uintptr(0))) // as in mask
	c.skipOver(first, unix.EINVAL)
	c.resultIn(c.call(unix.SYS_FCNTL, c.masks.empty, c.num(unix.F_DUPFD_CLOEXEC), zero), mnt)
	c.call(unix.SYS_DUP3, c.masks.null, c.masks.spare, c.num(unix.O_CLOEXEC))
	jump.allow(2, unix.EBADF)
	return mnt
}

// mask hides a path if it is there: a directory below an empty file system, anything else
// below /dev/null. The close of no descriptor always fails and so is a jump.
func (c *compiler) mask(s plan.Mask) {
	if c.masks.null == zero {
		c.masks.null = c.result(c.devNull(unix.O_PATH))
		c.masks.empty, c.masks.masked = c.unset(^uintptr(0)), c.unset(^uintptr(0))
		c.newFS("tmpfs", []string{"size=4096", "nr_inodes=2", "mode=0555"}, mountAttrs(true, true, true, true), c.masks.empty)
		c.masks.spare = c.result(c.call(unix.SYS_FCNTL, c.masks.empty, c.num(unix.F_DUPFD_CLOEXEC), zero))
	}
	path := strings.Trim(s.Path, "/")
	asDir := len(c.rows)
	c.resultIn(c.inRoot(path, unix.O_PATH|unix.O_DIRECTORY), c.masks.masked)
	c.attach(c.cloneOfEmpty(), c.masks.masked)
	jump := c.call(unix.SYS_CLOSE, c.num(^uintptr(0)))
	c.skipOver(asDir, unix.ENOENT, unix.ENOTDIR)
	asFile := len(c.rows)
	file := c.result(c.inRoot(path, unix.O_PATH))
	c.attach(c.cloneOf(c.masks.null), file)
	c.skipOver(asFile, unix.ENOENT, unix.ENOTDIR)
	jump.allow(len(c.rows)-asFile, unix.EBADF)
}

// stowEmpty hangs the empty file system itself over the last of its copies, if it is not in a
// place already: closing a mount that is nowhere costs a grace period, as plan.Stow says. No
// directory was hidden: EBADF. It is in use: the spare is /dev/null and no mount, EINVAL.
func (c *compiler) stowEmpty() {
	if c.masks.empty != zero {
		c.call(unix.SYS_MOVE_MOUNT, c.masks.spare, c.text(""), c.masks.masked, c.text(""), c.num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)).
			allow(0, unix.EBADF, unix.EINVAL)
	}
}

// readOnlyPath mounts a path over itself, read-only.
func (c *compiler) readOnlyPath(s plan.ReadOnlyPath) {
	first := len(c.rows)
	target := c.result(c.inRoot(strings.Trim(s.Path, "/"), unix.O_PATH))
	mnt := c.cloneOf(target)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	c.call(unix.SYS_MOUNT_SETATTR, mnt, c.text(""), c.num(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE), point(c.table, attr), c.num(unix.MOUNT_ATTR_SIZE_VER0))
	c.attach(mnt, target)
	c.skipOver(first, unix.ENOENT, unix.ENOTDIR)
}
