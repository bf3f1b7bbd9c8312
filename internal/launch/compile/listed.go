package compile

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
)

// bundled compiles the steps that only containers of OCI bundles take.
func (c *Program) listed(s plan.Step) error {
	switch s := s.(type) {
	case plan.OpenDev:
		c.ResultIn(c.Call(unix.SYS_OPENAT, c.cwd(), c.Text("/dev"), c.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)), c.handle(s.As))
	case plan.OpenSource: // as in the launcher this mounts what is mounted when it is asked for (autofs)
		c.ResultIn(c.Call(unix.SYS_OPEN_TREE, c.cwd(), c.Text(s.Path), c.Num(unix.OPEN_TREE_CLOEXEC)), c.handle(s.As))
	case plan.CloneMount:
		c.cloneMount(s)
	case plan.Attributes:
		c.attributesOf(s)
	case bundled.Remount:
		c.remount(s)
	case bundled.MoveRoot:
		c.moveRoot()
	case bundled.Chroot:
		c.Call(unix.SYS_FCHDIR, c.root)
		c.Call(unix.SYS_CHROOT, c.Text("."))
	case bundled.MakeNode:
		return c.makeNode(s)
	case bundled.Link:
		c.link(s)
	case bundled.BindConsole:
		node := c.Result(c.inRoot("dev/pts/0", unix.O_PATH|unix.O_NOFOLLOW))
		c.attach(c.cloneOf(node), c.target("/dev/console", true))
	case bundled.OwnTerminal:
		c.Call(unix.SYS_FCHOWN, c.pts, c.Num(uintptr(s.UID)), c.Num(^uintptr(0)))
	case bundled.SealMount:
		c.setAttr(s.Path, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	case bundled.Propagate:
		c.setAttr(s.Path, unix.MountAttr{Propagation: numbers.Propagation(s.Mode)})
	case bundled.RootPropagation:
		flags := uintptr(numbers.Propagation(s.Mode))
		if s.Recursive {
			flags |= unix.MS_REC
		}
		c.Call(unix.SYS_MOUNT, rows.Zero, c.Text("/"), rows.Zero, c.Num(flags))
	case plan.KeepCaps:
		c.Call(unix.SYS_PRCTL, c.Num(unix.PR_SET_KEEPCAPS), c.Num(1))
	case plan.HoldCaps:
		return c.holdCaps(s)
	case bundled.Reborn:
		return c.reborn(s)
	case bundled.AwaitHooks:
		c.tell(c.handle(plan.HeldReady))
		c.waitForRelease()
	case bundled.Find:
		c.find(s)
	case plan.Hold:
		c.hold(s)
	default:
		return c.attributes(s)
	}
	return nil
}

// cloneMount is of the mounts that the process has.
func (c *Program) cloneMount(s plan.CloneMount) {
	flags := uintptr(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if s.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	c.ResultIn(c.Call(unix.SYS_OPEN_TREE, c.handle(s.From), c.Text(""), c.Num(flags)), c.handle(s.As))
	c.Call(unix.SYS_CLOSE, c.handle(s.From))
}

// attributesOf changes a detached mount.
func (c *Program) attributesOf(s plan.Attributes) {
	attr := numbers.Change(s.Set, s.Clear)
	attr.Propagation = numbers.Propagation(s.Propagation)
	flags := uintptr(unix.AT_EMPTY_PATH)
	if s.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	c.Call(unix.SYS_MOUNT_SETATTR, c.handle(s.Mount), c.Text(""), c.Num(flags), rows.Point(c.Table, &attr), c.Num(unix.MOUNT_ATTR_SIZE_VER0))
}

// setAttr changes the mount at a path of the container.
func (c *Program) setAttr(path string, attr unix.MountAttr) {
	fd := c.Result(c.inRoot(strings.Trim(path, "/"), unix.O_PATH))
	c.Call(unix.SYS_MOUNT_SETATTR, fd, c.Text(""), c.Num(unix.AT_EMPTY_PATH), rows.Point(c.Table, &attr), c.Num(unix.MOUNT_ATTR_SIZE_VER0))
}

// makeNode makes a node where none is. The mode is set afterwards, whatever the umask.
func (c *Program) makeNode(s bundled.MakeNode) error {
	var kind uintptr
	switch s.Type {
	case "c", "u":
		kind = unix.S_IFCHR
	case "b":
		kind = unix.S_IFBLK
	case "p":
		kind = unix.S_IFIFO
	default:
		return errs.Newf(errs.Invalid, "make device", s.Path, "no device is of type "+s.Type)
	}
	dir, name := c.placeOf(s.Path)
	node := c.Call(unix.SYS_MKNODAT, dir, name, c.Num(kind|uintptr(s.Mode&0o7777)), c.Num(uintptr(unix.Mkdev(s.Major, s.Minor))))
	c.Call(unix.SYS_FCHMODAT, dir, name, c.Num(uintptr(s.Mode&0o7777)))
	c.Call(unix.SYS_FCHOWNAT, dir, name, c.Num(uintptr(s.UID)), c.Num(uintptr(s.GID)), c.Num(unix.AT_SYMLINK_NOFOLLOW))
	node.Tolerate(2, unix.EEXIST)
	return nil
}

// placeOf opens the directory of a path of the container, and makes it if need be.
func (c *Program) placeOf(file string) (dir, name rows.Slot) {
	return c.target(path.Dir(file), false), c.Text(path.Base(file))
}

func (c *Program) link(s bundled.Link) {
	dir, name := c.placeOf(s.Path)
	if s.Replace {
		c.Call(unix.SYS_UNLINKAT, dir, name).Tolerate(0, unix.ENOENT, unix.EISDIR, unix.EPERM, unix.EBUSY)
	}
	c.Call(unix.SYS_SYMLINKAT, c.Text(s.To), dir, name).Tolerate(0, unix.EEXIST)
}

// holdCaps writes the three sets, and raises in the ambient one what is in it.
func (c *Program) holdCaps(s plan.HoldCaps) error {
	var masks [4]uint64
	for i, names := range [4][]string{s.Effective, s.Permitted, s.Inheritable, s.Ambient} {
		var err error
		if masks[i], err = numbers.Caps(names); err != nil {
			return err
		}
	}
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{Effective: uint32(masks[0] >> shift), Permitted: uint32(masks[1] >> shift), Inheritable: uint32(masks[2] >> shift)}
	}
	c.Call(unix.SYS_CAPSET, rows.Point(c.Table, head), rows.Point(c.Table, data))
	for i := range 64 {
		if masks[3]&(1<<i) != 0 {
			c.Call(unix.SYS_PRCTL, c.Num(unix.PR_CAP_AMBIENT), c.Num(unix.PR_CAP_AMBIENT_RAISE), c.Num(uintptr(i)))
		}
	}
	return nil
}

// find asks for each path whether it may be executed, until one may. The close of no descriptor
// always fails and so is a jump. That a directory may be "executed" means another thing: the exec of
// one fails as it would later.
func (c *Program) find(s bundled.Find) {
	last := len(s.Paths) - 1
	for i, p := range s.Paths {
		r := c.Call(unix.SYS_FACCESSAT, c.cwd(), c.Text(p), c.Num(unix.X_OK))
		if i < last {
			r.Tolerate(1, unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENAMETOOLONG)
			c.Call(unix.SYS_CLOSE, c.Num(^uintptr(0))).Tolerate(2*(last-i)-1, unix.EBADF)
		}
	}
	if last == 0 {
		c.Call(unix.SYS_OPENAT, c.cwd(), c.Text(s.Paths[0]), c.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).Tolerate(1, unix.ENOTDIR)
		c.Call(unix.SYS_EXECVE, c.Text(s.Paths[0]), c.Texts(nil), c.Texts(nil))
	}
}

func (c *Program) reborn(s bundled.Reborn) error {
	var flags uintptr
	for _, name := range s.Namespaces {
		f, err := numbers.Namespace(name)
		if err != nil {
			return err
		}
		flags |= f
	}
	c.Heir(uint64(flags))
	return nil
}

// tell has an eventfd say that the process has come here.
func (c *Program) tell(fd rows.Slot) {
	one := new(uint64)
	*one = 1
	c.Call(unix.SYS_WRITE, fd, rows.Point(c.Table, one), c.Num(8))
}

// hold waits twice: for the launcher to say that the process is known, and then for a byte in the
// FIFO, which is open both ways and so has no end. The first byte is a zero, and the prctl takes no
// other argument: if the launcher has gone without a word, it fails.
func (c *Program) hold(s plan.Hold) {
	word := c.Unset(1)
	c.tell(c.kept[plan.HeldReady])
	c.Call(unix.SYS_READ, c.kept[plan.HeldKnown], c.Unset(c.Address(word)), c.Num(1))
	c.Call(unix.SYS_PRCTL, c.Num(unix.PR_GET_NO_NEW_PRIVS), word)
	c.Call(unix.SYS_READ, c.kept[s.Start], rows.Point(c.Table, new(uint64)), c.Num(1))
}
