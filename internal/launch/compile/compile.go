// Package compile turns the steps of a new process into the rows that it walks.
//
// A program is compiled before its process is made. What the launcher opens while the process
// waits are slots that it fills meanwhile (Put); what the process opens before it stops sharing
// descriptors, the launcher finds there (Terminal, Shared).
package compile

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// Program is the child steps of a plan as rows.
type Program struct {
	*rows.Table
	handles map[plan.Handle]rows.Slot
	kept    map[plan.Handle]rows.Slot // where KeepFDs put them
	await   [2]int                    // eventfd to read and pidfd of the launcher to watch
	tied    bool                      // the plan has DieWithParent
	watch   int                       // where KeepFDs put the launcher's pidfd for it
	owned   int                       // descriptors from 3 on that are the command's
	inits   []rows.Slot               // those that are of corten-init
	root    rows.Slot                 // the root mount, once EnterRoot is compiled
	masks   masks
	ptm     rows.Slot // the terminal's master
	pts     rows.Slot
	forked  []*Forked // the processes that Fork makes, in order
	agent   agent
	shared  []rows.Slot // what the child opened while descriptors were shared, and the launcher has to close
}

// Start compiles the steps of a container's first process, which waits for release, an eventfd, and
// for the end of launcher, a pidfd.
func Start(steps []plan.Step, open map[plan.Handle]int, release, launcher int) (*Program, error) {
	return build(steps, open, func(c *Program) {
		c.await = [2]int{release, launcher}
		for _, s := range steps {
			switch s.(type) {
			case plan.OpenTerminal:
				c.ptm, c.pts = c.Unset(^uintptr(0)), c.Unset(^uintptr(0))
			case plan.DieWithParent:
				c.tied = true
			}
		}
	})
}

// Join compiles those of one more process, when all that they refer to is open. Its terminal, if
// it has one, is open as peer.
func Join(steps []plan.Step, open map[plan.Handle]int, peer plan.Handle) (*Program, error) {
	c, err := build(steps, open, func(c *Program) {
		if peer != "" {
			c.pts = c.handle(peer)
		}
	})
	if err == nil {
		// Of a program that is not found the last failure is the one that counts: the process
		// before would write over what a table that ran to its end leaves.
		c.Rows[len(c.Rows)-1].Allow = 0
	}
	return c, err
}

// build compiles into a table that is large enough. Rows may not move once others point at them,
// so one that turns out too small is made anew.
func build(steps []plan.Step, open map[plan.Handle]int, begin func(*Program)) (*Program, error) {
	for room := 16*len(steps) + 64; ; room *= 2 {
		c := &Program{Table: rows.New(room), handles: map[plan.Handle]rows.Slot{}, kept: map[plan.Handle]rows.Slot{}}
		for name, fd := range open {
			c.Slots[c.handle(name)] = uintptr(fd)
		}
		begin(c)
		if err := c.compile(steps); err != nil || !c.Spent {
			return c, err
		}
	}
}

// Put hands the number of a descriptor to the process, if that uses it. The table is complete by now
// and grows no more.
func (c *Program) Put(as plan.Handle, fd int) {
	if s, ok := c.handles[as]; ok {
		c.Slots[s] = uintptr(fd)
	}
}

// Terminal is the master of the terminal that the process opened.
func (c *Program) Terminal() (fd int, ok bool) {
	fd = int(c.Slots[c.ptm])
	return fd, c.ptm != rows.Zero && fd > 0
}

// Shared is what the process opened while descriptors were shared, and is for the launcher to close.
func (c *Program) Shared() (fds []int) {
	for _, s := range c.shared {
		if fd := int(c.Slots[s]); fd > 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Listener is the listener of the filter, as the process numbers it, once it has installed the filter;
// answer is what it then waits for on its way.
func (c *Program) Listener() (fd int, answer uint64, ok bool) {
	n := atomic.LoadUintptr(&c.Slots[c.agent.listener])
	return int(n), uint64(c.Slots[c.agent.way]), c.agent.listener != rows.Zero && n != ^uintptr(0)
}

// agent is how the agent of a filter gets its listener; all zero if there is none.
type agent struct {
	listener rows.Slot // as the process numbers it
	way      rows.Slot // by which it waits until it is handed over, likewise
}

// masks is what paths are hidden with; all zero until the first Mask.
type masks struct {
	null   rows.Slot // /dev/null of the container
	empty  rows.Slot // an empty read-only file system
	spare  rows.Slot // that, as long as it is mounted nowhere
	masked rows.Slot // the last directory that was hidden below it
}

// handle is the slot of h; a handle that nobody opened yet gets an empty slot.
func (c *Program) handle(h plan.Handle) rows.Slot {
	s, ok := c.handles[h]
	if !ok && h == plan.Master {
		return c.ptm
	}
	if !ok {
		s = c.Unset(^uintptr(0))
		c.handles[h] = s
	}
	return s
}

// compile fills the table with the rows of all steps. If it was too small, spent is set.
func (c *Program) compile(steps []plan.Step) error {
	for i, s := range steps {
		c.Step = i
		if err := c.one(s); err != nil {
			return errs.Wrap(s.String(), "", err)
		}
	}
	return nil
}

func (c *Program) one(s plan.Step) error {
	switch s := s.(type) {
	case plan.Await, plan.EnterGroup, plan.OwnOOMScore, plan.Unshare, plan.TimeOffset, plan.Join, plan.BecomeRoot, plan.LoopbackUp, plan.OpenTerminal:
		return c.beginning(s)
	case plan.Propagation, plan.Stow, plan.EnterRoot, plan.Attach, plan.MountFS, plan.Mask, plan.ReadOnlyPath, plan.ReadOnlyRoot, plan.Pivot:
		c.mounting(s)
	case plan.Enter:
		return c.enter(s)
	case plan.TakeRoot:
		c.Call(unix.SYS_FCHDIR, c.handle(s.FD))
		c.Call(unix.SYS_CHROOT, c.Text("."))
	case plan.Fork:
		c.fork(s)
	case plan.Sysctl:
		fd := c.Result(c.inRoot("proc/sys/"+strings.ReplaceAll(s.Name, ".", "/"), unix.O_WRONLY))
		c.writeTo(fd, s.Value)
		c.Call(unix.SYS_CLOSE, fd)
	case plan.Write:
		c.write(s)
	case plan.Hostname:
		c.Call(unix.SYS_SETHOSTNAME, c.Text(s.Name), c.Num(uintptr(len(s.Name))))
	case plan.Domainname:
		c.Call(unix.SYS_SETDOMAINNAME, c.Text(s.Name), c.Num(uintptr(len(s.Name))))
	default:
		return c.becoming(s)
	}
	return nil
}

// beginning compiles the steps before the mounts.
func (c *Program) beginning(s plan.Step) error {
	switch s := s.(type) {
	case plan.Await:
		c.waitForRelease()
		if c.ptm == rows.Zero { // OpenTerminal leaves the table shared until the launcher has the master
			c.Call(unix.SYS_UNSHARE, c.Num(unix.CLONE_FILES))
		}
	case plan.OpenTerminal:
		c.openTerminal(s)
	case plan.OwnOOMScore:
		// Of an ordinary user the file is not his while nobody may trace the process.
		fd := c.Result(c.Call(unix.SYS_OPENAT, c.handle(s.Proc), c.Text("self/oom_score_adj"), c.Num(unix.O_WRONLY|unix.O_CLOEXEC)).Tolerate(2, unix.EACCES))
		text := strconv.Itoa(s.Value)
		c.Call(unix.SYS_WRITE, fd, c.Text(text), c.Num(uintptr(len(text)))).Tolerate(0, unix.EACCES)
		c.Call(unix.SYS_CLOSE, fd)
	case plan.EnterGroup:
		c.writeTo(c.handle(s.FD), "0")
	case plan.Unshare:
		flag, err := numbers.Namespace(s.Namespace)
		if err != nil {
			return err
		}
		c.Call(unix.SYS_UNSHARE, c.Num(flag))
	case plan.TimeOffset:
		if s.FD == "" {
			c.writeFile("/proc/self/timens_offsets", offsetLine(s))
		} else {
			c.writeTo(c.handle(s.FD), offsetLine(s))
		}
	case plan.Join:
		flag, err := numbers.Namespace(s.Namespace)
		if err != nil {
			return err
		}
		c.Call(unix.SYS_SETNS, c.handle(s.FD), c.Num(flag))
	case plan.BecomeRoot:
		c.Call(unix.SYS_SETRESGID, rows.Zero, rows.Zero, rows.Zero)
		c.Call(unix.SYS_SETRESUID, rows.Zero, rows.Zero, rows.Zero)
	case plan.LoopbackUp:
		fd := c.Result(c.Call(unix.SYS_SOCKET, c.Num(unix.AF_INET), c.Num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC)))
		c.Call(unix.SYS_IOCTL, fd, c.Num(unix.SIOCSIFFLAGS), c.Bytes(loopbackRequest()))
		c.Call(unix.SYS_CLOSE, fd)
	}
	return nil
}

// waitForRelease waits for the eventfd, or for the death of the launcher: then the read
// finds nothing (the eventfd does not block) and its error ends the child. It may be called again.
func (c *Program) waitForRelease() {
	fds := &[2]unix.PollFd{
		{Fd: int32(c.await[0]), Events: unix.POLLIN},
		{Fd: int32(c.await[1]), Events: unix.POLLIN},
	}
	c.Call(unix.SYS_PPOLL, rows.Point(c.Table, fds), c.Num(2), rows.Zero, rows.Zero, c.Num(8))
	c.Call(unix.SYS_READ, c.Num(uintptr(c.await[0])), rows.Point(c.Table, new(uint64)), c.Num(8))
}

// openTerminal makes the devpts while descriptors are still shared, so that the launcher
// finds the master in slot ptm, and stops sharing them.
func (c *Program) openTerminal(s plan.OpenTerminal) {
	mnt := c.handle(s.As)
	options := []string{"newinstance", "mode=0620", "gid=5", "ptmxmode=0666"}
	if s.Any {
		options = []string{"newinstance", "mode=0620", "ptmxmode=0666"}
	}
	if s.Options != nil {
		options = s.Options
	}
	if s.Label != "" {
		options = append(options[:len(options):len(options)], "context="+s.Label)
	}
	fs := c.newFS("devpts", options, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, mnt)
	c.ResultIn(c.Call(unix.SYS_OPENAT, mnt, c.Text("ptmx"), c.Num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)), c.ptm)
	c.shared = []rows.Slot{fs, mnt, c.pts}
	c.Call(unix.SYS_IOCTL, c.ptm, c.Num(unix.TIOCSPTLCK), rows.Point(c.Table, new(int32)))
	if s.Size != nil {
		size := &unix.Winsize{Row: s.Size.Rows, Col: s.Size.Columns}
		c.Call(unix.SYS_IOCTL, c.ptm, c.Num(unix.TIOCSWINSZ), rows.Point(c.Table, size))
	}
	c.ResultIn(c.Call(unix.SYS_IOCTL, c.ptm, c.Num(unix.TIOCGPTPEER), c.Num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)), c.pts)
	c.Call(unix.SYS_UNSHARE, c.Num(unix.CLONE_FILES))
}

// writeTo writes text to an open descriptor.
func (c *Program) writeTo(fd rows.Slot, text string) {
	c.Call(unix.SYS_WRITE, fd, c.Text(text), c.Num(uintptr(len(text))))
}

// write makes a file of the container, for all to read. Where it cannot be, it is left out.
func (c *Program) write(s plan.Write) {
	how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC | unix.O_CLOEXEC, Mode: 0o444,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	open := c.Call(unix.SYS_OPENAT2, c.root, c.Text(strings.Trim(s.Path, "/")), rows.Point(c.Table, how), c.Num(unix.SizeofOpenHow))
	fd := c.Result(open)
	c.writeTo(fd, s.Content)
	c.Call(unix.SYS_CLOSE, fd)
	open.Tolerate(2, unix.ENOENT, unix.ENOTDIR, unix.EROFS)
}

// writeFile writes text to a file that exists.
func (c *Program) writeFile(path, text string) {
	fd := c.Result(c.Call(unix.SYS_OPENAT, c.cwd(), c.Text(path), c.Num(unix.O_WRONLY|unix.O_CLOEXEC)))
	c.writeTo(fd, text)
	c.Call(unix.SYS_CLOSE, fd)
}

// cwd is AT_FDCWD.
func (c *Program) cwd() rows.Slot {
	at := unix.AT_FDCWD
	return c.Num(uintptr(at))
}
