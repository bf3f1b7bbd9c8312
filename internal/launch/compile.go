package launch

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
)

// compiler turns the child steps of a plan into rows. Handles that the host side opens are
// slots which it fills before Release.
type compiler struct {
	*table
	handles map[plan.Handle]slot
	kept    map[plan.Handle]slot // where KeepFDs put them
	await   [2]int               // eventfd to read and pidfd of the launcher to watch
	tied    bool                 // the plan has DieWithParent
	watch   int                  // where KeepFDs put the launcher's pidfd for it
	owned   int                  // descriptors from 3 on that are the command's
	inits   []slot               // those that are of corten-init
	root    slot                 // the root mount, once EnterRoot is compiled
	masks   masks
	ptm     slot // the terminal's master
	pts     slot
	joining *joining // of Join
	shared  []slot   // what the child opened while descriptors were shared, and we have to close
}

// masks is what paths are hidden with; all zero until the first Mask.
type masks struct {
	null   slot // /dev/null of the container
	empty  slot // an empty read-only file system
	spare  slot // that, as long as it is mounted nowhere
	masked slot // the last directory that was hidden below it
}

// handle is the slot of h; a handle that nobody opened yet gets an empty slot.
func (c *compiler) handle(h plan.Handle) slot {
	s, ok := c.handles[h]
	if !ok && h == plan.Master {
		return c.ptm
	}
	if !ok {
		s = c.unset(^uintptr(0))
		c.handles[h] = s
	}
	return s
}

// compile fills the table with the rows of all steps. If it was too small, spent is set.
func (c *compiler) compile(steps []plan.Step) error {
	for i, s := range steps {
		c.step = i
		if err := c.one(s); err != nil {
			return errs.Wrap(s.String(), "", err)
		}
	}
	return nil
}

func (c *compiler) one(s plan.Step) error {
	switch s := s.(type) {
	case plan.Await, plan.EnterGroup, plan.Unshare, plan.TimeOffset, plan.Join, plan.BecomeRoot, plan.LoopbackUp, plan.OpenTerminal:
		return c.beginning(s)
	case plan.Propagation, plan.Stow, plan.EnterRoot, plan.Attach, plan.MountFS, plan.Mask, plan.ReadOnlyPath, plan.ReadOnlyRoot, plan.Pivot:
		c.mounting(s)
	case plan.Enter:
		return c.enter(s)
	case plan.Fork:
		c.fork(s)
	case plan.Sysctl:
		fd := c.result(c.inRoot("proc/sys/"+strings.ReplaceAll(s.Name, ".", "/"), unix.O_WRONLY))
		c.writeTo(fd, s.Value)
		c.call(unix.SYS_CLOSE, fd)
	case plan.Write:
		c.write(s)
	case plan.Hostname:
		c.call(unix.SYS_SETHOSTNAME, c.text(s.Name), c.num(uintptr(len(s.Name))))
	case plan.Domainname:
		c.call(unix.SYS_SETDOMAINNAME, c.text(s.Name), c.num(uintptr(len(s.Name))))
	default:
		return c.becoming(s)
	}
	return nil
}

// beginning compiles the steps before the mounts.
func (c *compiler) beginning(s plan.Step) error {
	switch s := s.(type) {
	case plan.Await:
		c.waitForRelease()
	case plan.OpenTerminal:
		c.openTerminal(s)
	case plan.EnterGroup:
		c.writeTo(c.handle(s.FD), "0")
	case plan.Unshare:
		flag, err := namespaceFlag(s.Namespace)
		if err != nil {
			return err
		}
		c.call(unix.SYS_UNSHARE, c.num(flag))
	case plan.TimeOffset:
		if s.FD == "" {
			c.writeFile("/proc/self/timens_offsets", offsetLine(s))
		} else {
			c.writeTo(c.handle(s.FD), offsetLine(s))
		}
	case plan.Join:
		c.call(unix.SYS_SETNS, c.handle(s.FD), zero)
	case plan.BecomeRoot:
		c.call(unix.SYS_SETRESGID, zero, zero, zero)
		c.call(unix.SYS_SETRESUID, zero, zero, zero)
	case plan.LoopbackUp:
		fd := c.result(c.call(unix.SYS_SOCKET, c.num(unix.AF_INET), c.num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC)))
		c.call(unix.SYS_IOCTL, fd, c.num(unix.SIOCSIFFLAGS), c.bytes(loopbackRequest()))
		c.call(unix.SYS_CLOSE, fd)
	}
	return nil
}

// waitForRelease waits for the eventfd, or for the death of the launcher: then the read
// finds nothing (the eventfd does not block) and its error ends the child.
func (c *compiler) waitForRelease() {
	fds := &[2]unix.PollFd{
		{Fd: int32(c.await[0]), Events: unix.POLLIN},
		{Fd: int32(c.await[1]), Events: unix.POLLIN},
	}
	c.call(unix.SYS_PPOLL, point(c.table, fds), c.num(2), zero, zero, c.num(8))
	c.call(unix.SYS_READ, c.num(uintptr(c.await[0])), point(c.table, new(uint64)), c.num(8))
	if c.ptm == zero { // OpenTerminal leaves the table shared until the launcher has the master
		c.call(unix.SYS_UNSHARE, c.num(unix.CLONE_FILES))
	}
}

// openTerminal makes the devpts while descriptors are still shared, so that the launcher
// finds the master in slot ptm, and stops sharing them.
func (c *compiler) openTerminal(s plan.OpenTerminal) {
	mnt := c.handle(s.As)
	fs := c.newFS("devpts", []string{"newinstance", "mode=0620", "gid=5", "ptmxmode=0666"}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, mnt)
	c.resultIn(c.call(unix.SYS_OPENAT, mnt, c.text("ptmx"), c.num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)), c.ptm)
	c.shared = []slot{fs, mnt, c.pts}
	c.call(unix.SYS_IOCTL, c.ptm, c.num(unix.TIOCSPTLCK), point(c.table, new(int32)))
	if s.Size != nil {
		size := &unix.Winsize{Row: s.Size.Rows, Col: s.Size.Columns}
		c.call(unix.SYS_IOCTL, c.ptm, c.num(unix.TIOCSWINSZ), point(c.table, size))
	}
	c.resultIn(c.call(unix.SYS_IOCTL, c.ptm, c.num(unix.TIOCGPTPEER), c.num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)), c.pts)
	c.call(unix.SYS_UNSHARE, c.num(unix.CLONE_FILES))
}

// writeTo writes text to an open descriptor.
func (c *compiler) writeTo(fd slot, text string) {
	c.call(unix.SYS_WRITE, fd, c.text(text), c.num(uintptr(len(text))))
}

// write makes a file of the container, for all to read. Where it cannot be, it is left out.
func (c *compiler) write(s plan.Write) {
	how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_CLOEXEC, Mode: 0o444,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	open := c.call(unix.SYS_OPENAT2, c.root, c.text(strings.Trim(s.Path, "/")), point(c.table, how), c.num(unix.SizeofOpenHow))
	fd := c.result(open)
	c.writeTo(fd, s.Content)
	c.call(unix.SYS_CLOSE, fd)
	open.allow(2, unix.ENOENT, unix.ENOTDIR, unix.EROFS)
}

// writeFile writes text to a file that exists.
func (c *compiler) writeFile(path, text string) {
	fd := c.result(c.call(unix.SYS_OPENAT, c.cwd(), c.text(path), c.num(unix.O_WRONLY|unix.O_CLOEXEC)))
	c.writeTo(fd, text)
	c.call(unix.SYS_CLOSE, fd)
}

// cwd is AT_FDCWD.
func (c *compiler) cwd() slot {
	at := unix.AT_FDCWD
	return c.num(uintptr(at))
}

// namespaceFlag is the CLONE_NEW flag of a namespace's name.
func namespaceFlag(name string) (uintptr, error) {
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
