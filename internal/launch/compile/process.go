package compile

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
)

// becoming compiles the steps that set what the process is, up to its exec.
func (c *Program) becoming(s plan.Step) error {
	switch s := s.(type) {
	case plan.NewKeyring:
		c.keyring(s)
	case plan.Label:
		c.label(s)
	case plan.Stdio:
		c.stdio(s)
	case plan.KeepFDs:
		c.keepFDs(s)
	case plan.Umask:
		c.Call(unix.SYS_UMASK, c.Num(uintptr(s.Mask)))
	case plan.Chdir:
		c.chdir(s)
	case plan.DropBounding:
		return c.dropBounding(s)
	case plan.SetUser:
		c.setUser(s)
	case plan.SetCaps:
		return c.setCaps(s)
	case plan.NoNewPrivs:
		c.Call(unix.SYS_PRCTL, c.Num(unix.PR_SET_NO_NEW_PRIVS), c.Num(1))
	case plan.Seccomp:
		c.seccomp(s)
	case plan.LowerLimit:
		c.Call(unix.SYS_PRLIMIT64, rows.Zero, c.Num(uintptr(s.Resource)), rows.Point(c.Table, &unix.Rlimit{Cur: s.Soft, Max: s.Hard}), rows.Zero)
	case plan.DieWithParent:
		c.dieWithParent()
	case plan.Init:
		c.init(s)
	case plan.Exec:
		c.exec(s)
	default:
		return c.listed(s)
	}
	return nil
}

// label writes the label that exec will take: to the file of AppArmor (Linux 5.8), or to
// the one that all modules share. Processes that this one makes before its exec have it too.
func (c *Program) label(s plan.Label) {
	text, path := s.Label, "/proc/thread-self/attr/exec"
	if s.Module == "apparmor" {
		text, path = "exec "+s.Label, "/proc/thread-self/attr/apparmor/exec"
	}
	first := len(c.Rows)
	c.writeFile(path, text)
	if s.Usual {
		c.Rows[first].Tolerate(2, unix.ENOENT, unix.ENOTDIR) // a kernel without AppArmor
		// Not active, not loaded, or we have a profile ourselves that this one is no part of.
		c.Rows[first+1].Tolerate(0, unix.EINVAL, unix.ENOENT, unix.EACCES, unix.EPERM)
	}
}

func (c *Program) stdio(s plan.Stdio) {
	// A session of its own in any case: the launcher's terminal, if it has one, must not be
	// the container's to control.
	c.Call(unix.SYS_SETSID)
	if s.Terminal {
		c.Call(unix.SYS_IOCTL, c.pts, c.Num(unix.TIOCSCTTY), rows.Zero)
		for fd := range 3 {
			c.Call(unix.SYS_DUP3, c.pts, c.Num(uintptr(fd)), rows.Zero)
		}
		return
	}
	if s.NoStdin {
		null := c.Result(c.devNull(unix.O_RDONLY))
		c.Call(unix.SYS_DUP3, null, rows.Zero, rows.Zero)
	}
	for fd, h := range []plan.Handle{s.In, s.Out, s.Err} {
		if h != "" {
			c.Call(unix.SYS_DUP3, c.handle(h), c.Num(uintptr(fd)), rows.Zero)
		}
	}
}

// keepFDs first lifts the descriptors out of the way of one another, then puts them down
// in order and closes the rest. Nothing else of the host is open from here on. What is not
// the command's closes at the exec.
func (c *Program) keepFDs(s plan.KeepFDs) {
	var keep []rows.Slot // zero: nothing
	add := func(h plan.Handle) rows.Slot {
		fd := c.Num(uintptr(3 + len(keep)))
		c.kept[h] = fd
		keep = append(keep, c.handle(h))
		return fd
	}
	for i, h := range s.Places() {
		switch {
		case h == "":
			keep = append(keep, rows.Zero)
		case i < len(s.FDs):
			add(h)
		default:
			c.inits = append(c.inits, add(h))
		}
	}
	for _, h := range append([]plan.Handle{s.Wait, s.Exec}, s.Held...) {
		if h != "" {
			add(h)
		}
	}
	if c.tied {
		c.watch = 3 + len(keep)
		keep = append(keep, c.Num(uintptr(c.await[1])))
	}
	c.owned = len(s.FDs)
	c.stowEmpty()
	rest := c.Num(uintptr(3 + len(keep)))
	for i, fd := range keep {
		if fd != rows.Zero {
			keep[i] = c.Result(c.Call(unix.SYS_FCNTL, fd, c.Num(unix.F_DUPFD_CLOEXEC), rest))
		}
	}
	for i, fd := range keep {
		at := c.Num(uintptr(3 + i))
		switch {
		case fd == rows.Zero:
			c.Call(unix.SYS_CLOSE, at).Tolerate(0, unix.EBADF)
		case i < len(s.FDs):
			c.Call(unix.SYS_DUP3, fd, at, rows.Zero)
		default:
			c.Call(unix.SYS_DUP3, fd, at, c.Num(unix.O_CLOEXEC))
		}
	}
	c.Call(unix.SYS_CLOSE_RANGE, rest, c.Num(uintptr(^uint32(0))), rows.Zero)
}

// dieWithParent asks for the signal and then looks whether the launcher has died before:
// the second prctl takes no argument, so what ppoll found makes it fail.
func (c *Program) dieWithParent() {
	c.Call(unix.SYS_PRCTL, c.Num(unix.PR_SET_PDEATHSIG), c.Num(uintptr(unix.SIGKILL)))
	fds := &[1]unix.PollFd{{Fd: int32(c.watch), Events: unix.POLLIN}}
	dead := c.Result(c.Call(unix.SYS_PPOLL, rows.Point(c.Table, fds), c.Num(1), rows.Point(c.Table, new(unix.Timespec)), rows.Zero, c.Num(8)))
	c.Call(unix.SYS_PRCTL, c.Num(unix.PR_GET_NO_NEW_PRIVS), dead)
}

// chdir makes the directory if need be. A magic link is refused, so that the directory
// cannot be one of the host by way of /proc/self/fd.
func (c *Program) chdir(s plan.Chdir) {
	if s.Dir == "/" {
		c.Call(unix.SYS_CHDIR, c.Text("/"))
		return
	}
	for i := 1; i <= len(s.Dir) && !s.Exists; i++ {
		if i == len(s.Dir) || s.Dir[i] == '/' {
			c.Call(unix.SYS_MKDIRAT, c.cwd(), c.Text(s.Dir[:i]), c.Num(0o755)).Tolerate(0, unix.EEXIST)
		}
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd := c.Result(c.Call(unix.SYS_OPENAT2, c.cwd(), c.Text(s.Dir), rows.Point(c.Table, how), c.Num(unix.SizeofOpenHow)))
	c.Call(unix.SYS_FCHDIR, fd)
	c.Call(unix.SYS_CLOSE, fd)
}

// dropBounding drops also what this code has no name for: a capability of a newer kernel
// that stayed in the bounding set would be root's again after the exec. The first number
// that the kernel does not know is beyond its last, and so are all that follow.
func (c *Program) dropBounding(s plan.DropBounding) error {
	keep, err := numbers.Caps(s.Keep)
	if err != nil {
		return err
	}
	left := 64 - bits.OnesCount64(keep)
	for i := range 64 {
		if keep&(1<<i) == 0 {
			left--
			c.Call(unix.SYS_PRCTL, c.Num(unix.PR_CAPBSET_DROP), c.Num(uintptr(i))).Tolerate(left, unix.EINVAL)
		}
	}
	return nil
}

func (c *Program) setUser(s plan.SetUser) {
	switch {
	case s.Keep:
	case len(s.Groups) == 0:
		c.Call(unix.SYS_SETGROUPS, rows.Zero, rows.Zero)
	default:
		b := make([]byte, 0, 4*len(s.Groups))
		for _, g := range s.Groups {
			b = binary.NativeEndian.AppendUint32(b, g)
		}
		c.Call(unix.SYS_SETGROUPS, c.Num(uintptr(len(s.Groups))), c.Bytes(b))
	}
	gid, uid := c.Num(uintptr(s.GID)), c.Num(uintptr(s.UID))
	c.Call(unix.SYS_SETRESGID, gid, gid, gid)
	c.Call(unix.SYS_SETRESUID, uid, uid, uid)
}

// setCaps writes all three sets; inheritable stays empty, as containers have had it since
// CVE-2022-24769. For a user that is not root, setresuid has emptied the other two before.
func (c *Program) setCaps(s plan.SetCaps) error {
	mask, err := numbers.Caps(s.Caps)
	if err != nil {
		return err
	}
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(mask), Permitted: uint32(mask)},
		{Effective: uint32(mask >> 32), Permitted: uint32(mask >> 32)},
	}
	c.Call(unix.SYS_CAPSET, rows.Point(c.Table, head), rows.Point(c.Table, data))
	return nil
}

// seccomp installs the filter. Its flags are those of seccomp(2) and need no thread
// synchronisation: the process has one thread.
//
// A listener is announced before there is one: from then on the agent may be needed for any call, and
// the launcher looks for its number in our memory (Listener). Until it is handed over the process ends
// with the launcher: it has the listener itself, and would wait for an answer for ever. What is sent
// back is the number of a descriptor that can be read, so that without it the second read fails.
func (c *Program) seccomp(s plan.Seccomp) {
	filters := make([]unix.SockFilter, len(s.Program))
	for i, in := range s.Program {
		filters[i] = unix.SockFilter{Code: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	if s.Way != "" {
		c.Call(unix.SYS_PRCTL, c.Num(unix.PR_SET_PDEATHSIG), c.Num(uintptr(unix.SIGKILL)))
		c.Call(unix.SYS_WRITE, c.kept[s.Way], c.Bytes([]byte{0}), c.Num(1))
	}
	install := c.Call(unix.SYS_SECCOMP, c.Num(unix.SECCOMP_SET_MODE_FILTER), c.Num(uintptr(s.Flags)), rows.Point(c.Table, prog))
	if s.Way != "" {
		c.agent = agent{listener: c.Result(install), way: c.kept[s.Way]}
		word := c.Unset(^uintptr(0))
		c.Call(unix.SYS_READ, c.agent.way, c.Unset(c.Address(word)), c.Num(8))
		c.Call(unix.SYS_READ, word)
		c.Call(unix.SYS_PRCTL, c.Num(unix.PR_SET_PDEATHSIG), rows.Zero)
	}
}

// init makes the second process and executes corten-init in the first. Both share our memory
// until they have executed their programs, and nobody inside may trace them or look into
// them (letGo); descriptors and signals each has of its own.
//
// Rows that the filter of the user's seccomp profile could refuse are the ones that any
// program which starts another needs.
func (c *Program) init(s plan.Init) {
	c.defaultSignals()
	c.Kin = &rows.Kin{Alive: 1}
	alive := rows.Point(c.Table, &c.Kin.Alive)
	// The address to clear is the fourth argument on arm64 and the fifth on amd64, and the
	// other is not looked at.
	fork := c.Call(unix.SYS_CLONE, c.Num(unix.CLONE_VM|unix.CLONE_PARENT_SETTID|unix.CLONE_CHILD_CLEARTID|uintptr(unix.SIGCHLD)),
		rows.Zero, rows.Point(c.Table, &c.Kin.PID), alive, alive)
	first := len(c.Rows)
	// Its signals stay blocked: corten-init waits for them, and none is lost on the way.
	for i := range c.owned {
		c.Call(unix.SYS_FCNTL, c.Num(uintptr(3+i)), c.Num(unix.F_SETFD), c.Num(unix.FD_CLOEXEC))
	}
	for _, fd := range c.inits {
		c.Call(unix.SYS_FCNTL, fd, c.Num(unix.F_SETFD), rows.Zero)
	}
	c.Call(unix.SYS_EXECVEAT, c.kept[s.FD], c.Text(""), c.Texts(s.Args), c.Texts(nil), c.Num(unix.AT_EMPTY_PATH))
	fork.Fork = uintptr(len(c.Rows) - first)

	// From here on the other one. A process group of its own, which has the terminal if the
	// container has one: job control then works, and a signal to the group does not come back
	// to PID 1.
	c.Call(unix.SYS_SETPGID).Tolerate(0, unix.EPERM, unix.ENOSYS, unix.EACCES)
	if c.ptm != rows.Zero {
		c.Call(unix.SYS_IOCTL, rows.Zero, c.Num(unix.TIOCSPGRP), rows.Point(c.Table, &c.Kin.PID)).Tolerate(0, unix.EPERM, unix.ENOSYS, unix.EACCES)
	}
	if s.Gated {
		// The byte that is read is a zero, and the prctl takes no other argument: if PID 1 has
		// gone without a word, it fails.
		word := c.Unset(1)
		c.Call(unix.SYS_CLOSE, c.kept[plan.InitGate])
		c.Call(unix.SYS_WRITE, c.kept[plan.CommandGate], rows.Point(c.Table, &c.Kin.PID), c.Num(4))
		c.Call(unix.SYS_READ, c.kept[plan.CommandGate], c.Unset(c.Address(word)), c.Num(1))
		c.Call(unix.SYS_PRCTL, c.Num(unix.PR_GET_NO_NEW_PRIVS), word)
	}
}

// defaultSignals: what our own caller ignored, as nohup(1) does, is still ignored, since
// CLONE_CLEAR_SIGHAND leaves that alone.
func (c *Program) defaultSignals() {
	byDefault := c.Bytes(make([]byte, 32)) // struct sigaction of the kernel, SIG_DFL
	for sig := uintptr(1); sig <= 64; sig++ {
		if s := unix.Signal(sig); s != unix.SIGKILL && s != unix.SIGSTOP {
			c.Call(unix.SYS_RT_SIGACTION, c.Num(sig), byDefault, rows.Zero, c.Num(8))
		}
	}
}

// exec ends the table. Signals are unblocked last: all handlers are the default ones and
// nothing of ours could run.
func (c *Program) exec(s plan.Exec) {
	argv, envp := c.Texts(s.Args), c.Texts(s.Env)
	if c.Kin == nil {
		c.defaultSignals()
	}
	c.Call(unix.SYS_RT_SIGPROCMASK, c.Num(unix.SIG_SETMASK), c.Bytes(make([]byte, 8)), rows.Zero, c.Num(8))
	for _, p := range s.Paths {
		c.Call(unix.SYS_EXECVE, c.Text(p), argv, envp).
			Tolerate(0, unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENAMETOOLONG)
	}
}

// offsetLine is one line of timens_offsets: clock, seconds, nanoseconds (not negative).
func offsetLine(s plan.TimeOffset) string {
	sec, nano := s.Nanos/1e9, s.Nanos%1e9
	if nano < 0 {
		sec, nano = sec-1, nano+1e9
	}
	return fmt.Sprintf("%s %d %d\n", s.Clock, sec, nano)
}

// loopbackRequest is a struct ifreq, netdevice(7), that sets "lo" up and running.
func loopbackRequest() []byte {
	b := make([]byte, 40)
	copy(b, "lo")
	binary.NativeEndian.PutUint16(b[unix.IFNAMSIZ:], unix.IFF_UP|unix.IFF_RUNNING)
	return b
}
