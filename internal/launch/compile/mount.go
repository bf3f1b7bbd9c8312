package compile

import (
	"cmp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// mounting compiles the steps that build the container's view of the file system. Until
// Pivot the process still sees the host's tree; whatever an image could have put in the
// way as a symbolic link is resolved inside the container's root (openat2(2)
// RESOLVE_IN_ROOT, Linux 5.6).
func (c *Program) mounting(s plan.Step) {
	switch s := s.(type) {
	case plan.Propagation:
		flags := uintptr(unix.MS_REC | unix.MS_PRIVATE)
		if s.Mode == "slave" {
			flags = unix.MS_REC | unix.MS_SLAVE
		}
		c.Call(unix.SYS_MOUNT, rows.Zero, c.Text("/"), rows.Zero, c.Num(flags))
	case plan.Stow:
		// They pile up on a directory of the host's tree that is not looked at again. It may
		// not be its root: of a pile there Pivot would drop the topmost only. EINVAL: the mount
		// was attached elsewhere for the overlay (host.overlayAttached) and went with that place.
		for _, h := range s.Mounts {
			c.Call(unix.SYS_MOVE_MOUNT, c.handle(h), c.Text(""), c.cwd(), c.Text("/dev"), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH)).Tolerate(0, unix.EINVAL)
		}
	case plan.EnterRoot:
		c.root = c.handle(s.Mount)
		c.Call(unix.SYS_UMASK, c.Num(0o022)) // for the places of mounts that are made on the way
		if s.Stay {
			c.Call(unix.SYS_MOVE_MOUNT, c.root, c.Text(""), c.cwd(), c.Text(s.At), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH))
			c.Call(unix.SYS_FCHDIR, c.root)
			return
		}
		if s.At != "" {
			c.Call(unix.SYS_MOVE_MOUNT, c.root, c.Text(""), c.cwd(), c.Text(s.At), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH)).Tolerate(1, unix.EACCES)
			c.Call(unix.SYS_CLOSE, c.Num(^uintptr(0))).Tolerate(1, unix.EBADF) // as in mask
		}
		// Any directory will do to hang the root on: Pivot swaps it with the real root.
		c.Call(unix.SYS_MOVE_MOUNT, c.root, c.Text(""), c.cwd(), c.Text("/"), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH))
		c.Call(unix.SYS_FCHDIR, c.root)
	case plan.Attach:
		c.attach(c.handle(s.Mount), c.target(s.Target, s.File))
		if s.Forget != "" {
			c.Call(unix.SYS_UNLINKAT, c.handle(s.Forget), c.Text(s.Name))
		}
	case plan.MountFS:
		c.mountFS(s)
	case plan.Mask:
		c.mask(s)
	case plan.ReadOnlyPath:
		c.readOnlyPath(s)
	case plan.ReadOnlyRoot:
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		c.Call(unix.SYS_MOUNT_SETATTR, c.root, c.Text(""), c.Num(unix.AT_EMPTY_PATH), rows.Point(c.Table, attr), c.Num(unix.MOUNT_ATTR_SIZE_VER0))
	case plan.Pivot:
		c.Call(unix.SYS_FCHDIR, c.root)
		c.Call(unix.SYS_PIVOT_ROOT, c.Text("."), c.Text("."))
		c.Call(unix.SYS_UMOUNT2, c.Text("."), c.Num(unix.MNT_DETACH))
		c.Call(unix.SYS_CHDIR, c.Text("/"))
	}
}

// attach hangs a detached mount on an open target.
func (c *Program) attach(mnt, target rows.Slot) {
	c.Call(unix.SYS_MOVE_MOUNT, mnt, c.Text(""), target, c.Text(""), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// inRoot opens a path of the container.
func (c *Program) inRoot(path string, flags uint64) *rows.Row {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if path == "" {
		path = "."
	}
	return c.Call(unix.SYS_OPENAT2, c.root, c.Text(path), rows.Point(c.Table, how), c.Num(unix.SizeofOpenHow))
}

// devNull opens the null device of the tmpfs that we made, which lies at /dev if the
// container has no other there. By path an image could lay a link to one of our descriptors
// in the way: they are still open, and some lead to the host.
func (c *Program) devNull(flags uintptr) *rows.Row {
	return c.Call(unix.SYS_OPENAT, c.handle(plan.DevMount), c.Text("null"), c.Num(flags|unix.O_NOFOLLOW|unix.O_CLOEXEC))
}

// target opens the place for a mount and makes what is missing of it: two rows for each
// component, since a table cannot ask first.
func (c *Program) target(path string, file bool) rows.Slot {
	path = strings.Trim(path, "/")
	parent := c.root
	if path == "" {
		return c.Result(c.inRoot(path, unix.O_PATH))
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
			c.Call(unix.SYS_MKNODAT, parent, c.Text(name), c.Num(unix.S_IFREG|0o644)).Tolerate(0, unix.EEXIST)
		} else {
			c.Call(unix.SYS_MKDIRAT, parent, c.Text(name), c.Num(0o755)).Tolerate(0, unix.EEXIST)
		}
		flags := uint64(unix.O_PATH)
		if !last {
			flags |= unix.O_DIRECTORY
		}
		parent = c.Result(c.inRoot(path[:end], flags))
		if last {
			return parent
		}
		done = end + 1
	}
}

// newFS makes a mount of a new file system and stores its descriptor in mnt. The first of
// its rows is the one that fails when the kernel lacks the type.
func (c *Program) newFS(fstype string, options []string, attrs uintptr, mnt rows.Slot) (fs rows.Slot) {
	return c.newFSOf(fstype, fstype, options, attrs, mnt)
}

// newFSOf is newFS of a source, which for most is only what df shows.
func (c *Program) newFSOf(fstype, source string, options []string, attrs uintptr, mnt rows.Slot) (fs rows.Slot) {
	fs = c.Result(c.Call(unix.SYS_FSOPEN, c.Text(fstype), c.Num(unix.FSOPEN_CLOEXEC)))
	c.Call(unix.SYS_FSCONFIG, fs, c.Num(unix.FSCONFIG_SET_STRING), c.Text("source"), c.Text(source))
	c.configure(fs, options)
	c.Call(unix.SYS_FSCONFIG, fs, c.Num(unix.FSCONFIG_CMD_CREATE))
	c.ResultIn(c.Call(unix.SYS_FSMOUNT, fs, c.Num(unix.FSMOUNT_CLOEXEC), c.Num(attrs)), mnt)
	return fs
}

// configure tells a file system its options.
func (c *Program) configure(fs rows.Slot, options []string) {
	for _, o := range options {
		if name, value, ok := strings.Cut(o, "="); ok {
			c.Call(unix.SYS_FSCONFIG, fs, c.Num(unix.FSCONFIG_SET_STRING), c.Text(name), c.Text(value))
		} else {
			c.Call(unix.SYS_FSCONFIG, fs, c.Num(unix.FSCONFIG_SET_FLAG), c.Text(name))
		}
	}
}

func (c *Program) mountFS(s plan.MountFS) {
	target := c.target(s.Target, false)
	mnt := c.Unset(^uintptr(0))
	open := len(c.Rows)
	attrs := numbers.Attrs(s.ReadOnly, s.NoSuid, s.NoDev, s.NoExec)
	for _, name := range s.Attrs {
		attrs |= numbers.Attr(name)
	}
	c.newFSOf(s.Type, cmp.Or(s.Source, s.Type), s.Options, attrs, mnt)
	c.attach(mnt, target)
	if s.Missing {
		c.skipOver(open, unix.ENODEV)
	}
}

// skipOver lets the row at index first fail with these errors, which then leaves out all
// rows after it.
func (c *Program) skipOver(first int, errnos ...unix.Errno) {
	if c.Spent {
		return
	}
	c.Rows[first].Tolerate(len(c.Rows)-first-1, errnos...)
}

// cloneOf takes a detached copy of what fd is open on.
func (c *Program) cloneOf(fd rows.Slot) rows.Slot {
	return c.Result(c.Call(unix.SYS_OPEN_TREE, fd, c.Text(""), c.Num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)))
}

// cloneOfEmpty takes a copy of the empty file system. Before Linux 6.15 there is none of a
// detached mount (EINVAL): the first place gets the mount itself, which can be cloned then.
func (c *Program) cloneOfEmpty() rows.Slot {
	first := len(c.Rows)
	mnt := c.cloneOf(c.masks.empty)
	jump := c.Call(unix.SYS_CLOSE, c.Num(^uintptr(0))) // as in mask
	c.skipOver(first, unix.EINVAL)
	c.ResultIn(c.Call(unix.SYS_FCNTL, c.masks.empty, c.Num(unix.F_DUPFD_CLOEXEC), rows.Zero), mnt)
	c.Call(unix.SYS_DUP3, c.masks.null, c.masks.spare, c.Num(unix.O_CLOEXEC))
	jump.Tolerate(2, unix.EBADF)
	return mnt
}

// mask hides a path if it is there: a directory below an empty file system, anything else
// below /dev/null. The close of no descriptor always fails and so is a jump.
func (c *Program) mask(s plan.Mask) {
	if c.masks.null == rows.Zero {
		c.masks.null = c.Result(c.devNull(unix.O_PATH))
		c.masks.empty, c.masks.masked = c.Unset(^uintptr(0)), c.Unset(^uintptr(0))
		c.newFS("tmpfs", []string{"size=4096", "nr_inodes=2", "mode=0555"}, numbers.Attrs(true, true, true, true), c.masks.empty)
		c.masks.spare = c.Result(c.Call(unix.SYS_FCNTL, c.masks.empty, c.Num(unix.F_DUPFD_CLOEXEC), rows.Zero))
	}
	path := strings.Trim(s.Path, "/")
	asDir := len(c.Rows)
	c.ResultIn(c.inRoot(path, unix.O_PATH|unix.O_DIRECTORY), c.masks.masked)
	c.attach(c.cloneOfEmpty(), c.masks.masked)
	jump := c.Call(unix.SYS_CLOSE, c.Num(^uintptr(0)))
	c.skipOver(asDir, unix.ENOENT, unix.ENOTDIR)
	asFile := len(c.Rows)
	file := c.Result(c.inRoot(path, unix.O_PATH))
	c.attach(c.cloneOf(c.masks.null), file)
	c.skipOver(asFile, unix.ENOENT, unix.ENOTDIR)
	jump.Tolerate(len(c.Rows)-asFile, unix.EBADF)
}

// stowEmpty hangs the empty file system itself over the last of its copies, if it is not in a
// place already: closing a mount that is nowhere costs a grace period, as plan.Stow says. No
// directory was hidden: EBADF. It is in use: the spare is /dev/null and no mount, EINVAL.
func (c *Program) stowEmpty() {
	if c.masks.empty != rows.Zero {
		c.Call(unix.SYS_MOVE_MOUNT, c.masks.spare, c.Text(""), c.masks.masked, c.Text(""), c.Num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)).
			Tolerate(0, unix.EBADF, unix.EINVAL)
	}
}

// readOnlyPath mounts a path over itself, read-only.
func (c *Program) readOnlyPath(s plan.ReadOnlyPath) {
	first := len(c.Rows)
	target := c.Result(c.inRoot(strings.Trim(s.Path, "/"), unix.O_PATH))
	mnt := c.cloneOf(target)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	c.Call(unix.SYS_MOUNT_SETATTR, mnt, c.Text(""), c.Num(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE), rows.Point(c.Table, attr), c.Num(unix.MOUNT_ATTR_SIZE_VER0))
	c.attach(mnt, target)
	c.skipOver(first, unix.ENOENT, unix.ENOTDIR)
}
