package launch

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
)

// becoming compiles the steps that set what the process is, up to its exec.
func (c *compiler) becoming(s plan.Step) error {
	switch s := s.(type) {
	case plan.NewKeyring:
		c.call(unix.SYS_KEYCTL, c.num(unix.KEYCTL_JOIN_SESSION_KEYRING), zero).allow(0, unix.ENOSYS)
	case plan.Label:
		c.label(s)
	case plan.Stdio:
		c.stdio(s)
	case plan.KeepFDs:
		c.keepFDs(s)
	case plan.Umask:
		c.call(unix.SYS_UMASK, c.num(uintptr(s.Mask)))
	case plan.Chdir:
		c.chdir(s)
	case plan.DropBounding:
		return c.dropBounding(s)
	case plan.SetUser:
		c.setUser(s)
	case plan.SetCaps:
		return c.setCaps(s)
	case plan.NoNewPrivs:
		c.call(unix.SYS_PRCTL, c.num(unix.PR_SET_NO_NEW_PRIVS), c.num(1))
	case plan.Seccomp:
		c.seccomp(s)
	case plan.LowerLimit:
		c.call(unix.SYS_PRLIMIT64, zero, c.num(uintptr(s.Resource)), point(c.table, &unix.Rlimit{Cur: s.Soft, Max: s.Hard}), zero)
	case plan.DieWithParent:
		c.dieWithParent()
	case plan.Init:
		c.init(s)
	case plan.Exec:
		c.exec(s)
	default:
		return errs.Newf(errs.Internal, "compile step", s.Kind(), "not a child step")
	}
	return nil
}

// label writes the label that exec will take: to the file of the module (Linux 5.1), or to
// the one that all modules shared before.
func (c *compiler) label(s plan.Label) {
	text, path := s.Label, "/proc/thread-self/attr/exec"
	if s.Module == "apparmor" {
		text, path = "exec "+s.Label, "/proc/thread-self/attr/apparmor/exec"
	}
	c.writeFile(path, text)
}

func (c *compiler) stdio(s plan.Stdio) {
	// A session of its own in any case: the launcher's terminal, if it has one, must not be
	// the container's to control.
	c.call(unix.SYS_SETSID)
	if s.Terminal {
		c.call(unix.SYS_IOCTL, c.pts, c.num(unix.TIOCSCTTY), zero)
		for fd := range 3 {
			c.call(unix.SYS_DUP3, c.pts, c.num(uintptr(fd)), zero)
		}
		return
	}
	if s.NoStdin {
		null := c.result(c.devNull(unix.O_RDONLY))
		c.call(unix.SYS_DUP3, null, zero, zero)
	}
	for fd, h := range []plan.Handle{s.In, s.Out, s.Err} {
		if h != "" {
			c.call(unix.SYS_DUP3, c.handle(h), c.num(uintptr(fd)), zero)
		}
	}
}

// keepFDs first lifts the descriptors out of the way of one another, then puts them down
// in order and closes the rest. Nothing else of the host is open from here on. What is not
// the command's closes at the exec.
func (c *compiler) keepFDs(s plan.KeepFDs) {
	var keep []slot // zero: nothing
	add := func(h plan.Handle) slot {
		fd := c.num(uintptr(3 + len(keep)))
		c.kept[h] = fd
		keep = append(keep, c.handle(h))
		return fd
	}
	for i, h := range s.Places() {
		switch {
		case h == "":
			keep = append(keep, zero)
		case i < len(s.FDs):
			add(h)
		default:
			c.inits = append(c.inits, add(h))
		}
	}
	for _, h := range []plan.Handle{s.Wait, s.Exec} {
		if h != "" {
			add(h)
		}
	}
	if c.tied {
		c.watch = 3 + len(keep)
		keep = append(keep, c.num(uintptr(c.await[1])))
	}
	c.owned = len(s.FDs)
	c.stowEmpty()
	rest := c.num(uintptr(3 + len(keep)))
	for i, fd := range keep {
		if fd != zero {
			keep[i] = c.result(c.call(unix.SYS_FCNTL, fd, c.num(unix.F_DUPFD_CLOEXEC), rest))
		}
	}
	for i, fd := range keep {
		at := c.num(uintptr(3 + i))
		switch {
		case fd == zero:
			c.call(unix.SYS_CLOSE, at).allow(0, unix.EBADF)
		case i < len(s.FDs):
			c.call(unix.SYS_DUP3, fd, at, zero)
		default:
			c.call(unix.SYS_DUP3, fd, at, c.num(unix.O_CLOEXEC))
		}
	}
	c.call(unix.SYS_CLOSE_RANGE, rest, c.num(uintptr(^uint32(0))), zero)
}

// dieWithParent asks for the signal and then looks whether the launcher has died before:
// the second prctl takes no argument, so what ppoll found makes it fail.
func (c *compiler) dieWithParent() {
	c.call(unix.SYS_PRCTL, c.num(unix.PR_SET_PDEATHSIG), c.num(uintptr(unix.SIGKILL)))
	fds := &[1]unix.PollFd{{Fd: int32(c.watch), Events: unix.POLLIN}}
	dead := c.result(c.call(unix.SYS_PPOLL, point(c.table, fds), c.num(1), point(c.table, new(unix.Timespec)), zero, c.num(8)))
	c.call(unix.SYS_PRCTL, c.num(unix.PR_GET_NO_NEW_PRIVS), dead)
}

// chdir makes the directory if need be. A magic link is refused, so that the directory
// cannot be one of the host by way of /proc/self/fd.
func (c *compiler) chdir(s plan.Chdir) {
	if s.Dir == "/" {
		c.call(unix.SYS_CHDIR, c.text("/"))
		return
	}
	for i := 1; i <= len(s.Dir) && !s.Exists; i++ {
		if i == len(s.Dir) || s.Dir[i] == '/' {
			c.call(unix.SYS_MKDIRAT, c.cwd(), c.text(s.Dir[:i]), c.num(0o755)).allow(0, unix.EEXIST)
		}
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd := c.result(c.call(unix.SYS_OPENAT2, c.cwd(), c.text(s.Dir), point(c.table, how), c.num(unix.SizeofOpenHow)))
	c.call(unix.SYS_FCHDIR, fd)
	c.call(unix.SYS_CLOSE, fd)
}

// dropBounding drops also what this code has no name for: a capability of a newer kernel
// that stayed in the bounding set would be root's again after the exec. The first number
// that the kernel does not know is beyond its last, and so are all that follow.
func (c *compiler) dropBounding(s plan.DropBounding) error {
	keep, err := capMask(s.Keep)
	if err != nil {
		return err
	}
	left := 64 - bits.OnesCount64(keep)
	for i := range 64 {
		if keep&(1<<i) == 0 {
			left--
			c.call(unix.SYS_PRCTL, c.num(unix.PR_CAPBSET_DROP), c.num(uintptr(i))).allow(left, unix.EINVAL)
		}
	}
	return nil
}

func (c *compiler) setUser(s plan.SetUser) {
	if len(s.Groups) == 0 {
		c.call(unix.SYS_SETGROUPS, zero, zero)
	} else {
		b := make([]byte, 0, 4*len(s.Groups))
		for _, g := range s.Groups {
			b = binary.NativeEndian.AppendUint32(b, g)
		}
		c.call(unix.SYS_SETGROUPS, c.num(uintptr(len(s.Groups))), c.bytes(b))
	}
	gid, uid := c.num(uintptr(s.GID)), c.num(uintptr(s.UID))
	c.call(unix.SYS_SETRESGID, gid, gid, gid)
	c.call(unix.SYS_SETRESUID, uid, uid, uid)
}

// setCaps writes all three sets; inheritable stays empty, as containers have had it since
// CVE-2022-24769. For a user that is not root, setresuid has emptied the other two before.
func (c *compiler) setCaps(s plan.SetCaps) error {
	mask, err := capMask(s.Caps)
	if err != nil {
		return err
	}
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(mask), Permitted: uint32(mask)},
		{Effective: uint32(mask >> 32), Permitted: uint32(mask >> 32)},
	}
	c.call(unix.SYS_CAPSET, point(c.table, head), point(c.table, data))
	return nil
}

// seccomp installs the filter. Its flags are those of seccomp(2) and need no thread
// synchronisation: the process has one thread.
func (c *compiler) seccomp(s plan.Seccomp) {
	filters := make([]unix.SockFilter, len(s.Program))
	for i, in := range s.Program {
		filters[i] = unix.SockFilter{Code: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	c.call(unix.SYS_SECCOMP, c.num(unix.SECCOMP_SET_MODE_FILTER), c.num(uintptr(s.Flags)), point(c.table, prog))
}

// init makes the second process and executes corten-init in the first. Both share our memory
// until they have executed their programs, and nobody inside may trace them or look into
// them (letGo); descriptors and signals each has of its own.
//
// Rows that the filter of the user's seccomp profile could refuse are the ones that any
// program which starts another needs.
func (c *compiler) init(s plan.Init) {
	c.defaultSignals()
	c.kin = &kin{alive: 1}
	alive := point(c.table, &c.kin.alive)
	// The address to clear is the fourth argument on arm64 and the fifth on amd64, and the
	// other is not looked at.
	fork := c.call(unix.SYS_CLONE, c.num(unix.CLONE_VM|unix.CLONE_PARENT_SETTID|unix.CLONE_CHILD_CLEARTID|uintptr(unix.SIGCHLD)),
		zero, point(c.table, &c.kin.pid), alive, alive)
	first := len(c.rows)
	// Its signals stay blocked: corten-init waits for them, and none is lost on the way.
	for i := range c.owned {
		c.call(unix.SYS_FCNTL, c.num(uintptr(3+i)), c.num(unix.F_SETFD), c.num(unix.FD_CLOEXEC))
	}
	for _, fd := range c.inits {
		c.call(unix.SYS_FCNTL, fd, c.num(unix.F_SETFD), zero)
	}
	c.call(unix.SYS_EXECVEAT, c.kept[s.FD], c.text(""), c.texts(s.Args), c.texts(nil), c.num(unix.AT_EMPTY_PATH))
	fork.r.fork = uintptr(len(c.rows) - first)

	// From here on the other one. A process group of its own, which has the terminal if the
	// container has one: job control then works, and a signal to the group does not come back
	// to PID 1.
	c.call(unix.SYS_SETPGID).allow(0, unix.EPERM, unix.ENOSYS, unix.EACCES)
	if c.ptm != zero {
		c.call(unix.SYS_IOCTL, zero, c.num(unix.TIOCSPGRP), point(c.table, &c.kin.pid)).allow(0, unix.EPERM, unix.ENOSYS, unix.EACCES)
	}
	if s.Gated {
		// The byte that is read is a zero, and the prctl takes no other argument: if PID 1 has
		// gone without a word, it fails.
		word := c.unset(1)
		c.call(unix.SYS_CLOSE, c.kept[plan.InitGate])
		c.call(unix.SYS_WRITE, c.kept[plan.CommandGate], point(c.table, &c.kin.pid), c.num(4))
		c.call(unix.SYS_READ, c.kept[plan.CommandGate], c.unset(c.address(word)), c.num(1))
		c.call(unix.SYS_PRCTL, c.num(unix.PR_GET_NO_NEW_PRIVS), word)
	}
}

// defaultSignals: what our own caller ignored, as nohup(1) does, is still ignored, since
// CLONE_CLEAR_SIGHAND leaves that alone.
func (c *compiler) defaultSignals() {
	byDefault := c.bytes(make([]byte, 32)) // struct sigaction of the kernel, SIG_DFL
	for sig := uintptr(1); sig <= 64; sig++ {
		if s := unix.Signal(sig); s != unix.SIGKILL && s != unix.SIGSTOP {
			c.call(unix.SYS_RT_SIGACTION, c.num(sig), byDefault, zero, c.num(8))
		}
	}
}

// exec ends the table. Signals are unblocked last: all handlers are the default ones and
// nothing of ours could run.
func (c *compiler) exec(s plan.Exec) {
	argv, envp := c.texts(s.Args), c.texts(s.Env)
	if c.kin == nil {
		c.defaultSignals()
	}
	c.call(unix.SYS_RT_SIGPROCMASK, c.num(unix.SIG_SETMASK), c.bytes(make([]byte, 8)), zero, c.num(8))
	for _, p := range s.Paths {
		c.call(unix.SYS_EXECVE, c.text(p), argv, envp).
			allow(0, unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENAMETOOLONG)
	}
}

func capMask(names []string) (uint64, error) {
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
