package launch

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/launch/compile"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/launch/numbers"
	"github.com/cortenhq/corten/internal/launch/rows"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
)

// host executes the host steps of one launch. Descriptors that steps open go to fds and
// into the child's slots; all are closed when the launch is over, good or bad, since by
// then the child has copies of its own.
type host struct {
	c       *compile.Program
	fds     map[plan.Handle]int
	release int          // eventfd that Await reads
	self    int          // pidfd of this process, which Await watches
	proc    *rows.Born   // the new process, after Clone
	joined  func() error // waits for the connection to networks
	stdio   [3]int       // what becomes the child's; -1: nothing of the host's
	score   []byte       // our own OOM score, while it is the new process's; nil: it was not set
	env     Env
}

// run executes one step.
func (h *host) run(s plan.Step) error {
	switch s := s.(type) {
	case plan.CloneMount, plan.MountImage, plan.OpenFile, plan.OpenProc, plan.MakeDev, plan.MakeFile, plan.MakeTmpfs, plan.Overlay, plan.MapUsers:
		return h.open(s)
	case plan.MakeGroups:
		return h.env.MakeGroups()
	case plan.MakeGate:
		return h.pair(s.Init, s.Command)
	case plan.MakeWay:
		return h.pair(s.Ours, s.Way)
	case plan.HandOver:
		return h.handOver(h.proc.PIDFD, func() int { return h.proc.PIDFD })
	case plan.Clone:
		return h.clone(s)
	case plan.Connect:
		var err error
		h.joined, err = h.env.Connect(h.proc.PID)
		return err
	case plan.Connected:
		return h.joined()
	case plan.MapIDs:
		return h.mapIDs(s)
	case plan.IDMap:
		return h.idmap(s)
	case plan.Restrict:
		return h.restrict(s)
	case plan.Seed:
		return h.seed(s)
	case plan.OOMScore:
		return h.setScore(s.Value)
	case plan.Limit:
		return unix.Prlimit(h.proc.PID, s.Resource, &unix.Rlimit{Cur: s.Soft, Max: s.Hard}, nil)
	case plan.Schedule:
		return h.schedule(s)
	case plan.SetIOPriority:
		return setIOPriority(h.proc.PID, s)
	case plan.OwnStdio:
		return h.ownStdio(s.GID)
	case plan.Attributes:
		return h.attributes(s)
	case bundled.MoveDevices:
		return h.env.Devices(h.proc.PID)
	case bundled.GiveStdio:
		return h.giveStdio(s)
	case bundled.NoteRoot:
		id, err := kernel.MountID(h.fd(plan.RootMount), "")
		if err != nil {
			return err
		}
		return h.env.Note(id)
	case bundled.Hooks:
		return h.env.Hooks(h.proc.PID, s.Inside)
	case plan.Release:
		if h.env.Waits != nil {
			if err := h.env.Waits(h.proc.PID); err != nil {
				return err
			}
		}
		return h.letGo()
	default:
		return errs.Newf(errs.Internal, "execute step", s.Kind(), "not a host step")
	}
}

// open executes the steps that open a descriptor.
func (h *host) open(s plan.Step) error {
	var fd int
	var as plan.Handle
	var err error
	switch s := s.(type) {
	case plan.CloneMount:
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if s.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		as = s.As
		fd, err = unix.OpenTree(unix.AT_FDCWD, s.Path, flags)
	case plan.MountImage:
		as = s.As
		fd, err = detached.Image(s.File)
	case plan.OpenFile:
		as = s.As
		mode := unix.O_RDONLY
		if s.Write {
			mode = unix.O_WRONLY
		} else if s.Exec {
			mode = unix.O_PATH
		}
		fd, err = unix.Open(s.Path, mode|unix.O_CLOEXEC, 0)
	case plan.OpenProc:
		as = s.As
		fd, err = unix.Open(h.procFile(s.Name), unix.O_RDWR|unix.O_CLOEXEC, 0)
	case plan.MakeDev:
		as = s.As
		err = asOwner(s.Root, func() error {
			fd, err = detached.Dev(s)
			return err
		})
	case plan.MakeFile:
		as = s.As
		err = asOwner(s.Root, func() error {
			fd, err = detached.File(h.fd(s.In), s)
			return err
		})
	case plan.MakeTmpfs:
		as = s.As
		fd, err = detached.New("tmpfs", 0, append([]string{"source=" + cmp.Or(s.Source, "tmpfs")}, s.Options...)...)
	case plan.Overlay:
		as = s.As
		fd, err = h.overlay(s)
	case plan.MapUsers:
		as = s.As
		fd, err = mapUsers(s)
	}
	if err != nil {
		return err
	}
	h.put(as, fd)
	return nil
}

// put files a descriptor under its handle and hands its number to the child.
func (h *host) put(as plan.Handle, fd int) {
	h.fds[as] = fd
	h.c.Put(as, fd)
}

// fd is the descriptor of a handle that a former step opened.
func (h *host) fd(a plan.Handle) int {
	if fd, ok := h.fds[a]; ok {
		return fd
	}
	return -1 // the kernel says EBADF; Plan.Check finds it before
}

// pair makes two sockets that are connected.
func (h *host) pair(one, other plan.Handle) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		h.put(one, pair[0])
		h.put(other, pair[1])
	}
	return err
}

// close closes the descriptor of a handle, if there is one.
func (h *host) close(a plan.Handle) {
	if fd, ok := h.fds[a]; ok {
		_ = unix.Close(fd)
		delete(h.fds, a)
	}
}

func (h *host) closeAll() {
	for _, fd := range h.fds {
		_ = unix.Close(fd)
	}
}

func (h *host) procFile(name string) string {
	return "/proc/" + strconv.Itoa(h.proc.PID) + "/" + name
}

// letGo lets the child go on. It gives up capabilities while it still shares our memory, so
// from here on nobody may trace it but who may trace us (ptrace(2), "Ptrace access mode
// checking").
func (h *host) letGo() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	_, err := unix.Write(h.release, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

// writeFile writes a value to a control file in one write.
func writeFile(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// clone starts the child, which walks its rows up to Await.
func (h *host) clone(s plan.Clone) error {
	var flags uint64
	for _, name := range s.Namespaces {
		f, err := numbers.Namespace(name)
		if err != nil {
			return err
		}
		flags |= uint64(f)
	}
	group := -1
	if s.Group != "" {
		fd, err := unix.Open(s.Group, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		h.put("launch:group", fd)
		group = fd
	}
	var b rows.Born
	err := h.within(s.Join, func() (err error) {
		if h.c.Heirs() {
			b, err = h.c.StartFor(group)
		} else {
			b, err = h.c.Start(flags, group)
		}
		if err != nil {
			err = cloneHint(err)
		}
		return err
	})
	if err != nil {
		return err
	}
	h.proc = &b
	if !h.c.Heirs() {
		h.close("launch:group")
	}
	return nil
}

// inherit has the process that the first one made in its place.
func (h *host) inherit(p plan.Plan) error {
	b, ok := h.c.Inherited(*h.proc)
	h.close("launch:group")
	if !ok {
		return h.lost(p)
	}
	end(h.proc.PIDFD)
	b.PID = pidOf(b.PIDFD)
	h.proc = &b
	return nil
}

// within runs f on a thread that is in other namespaces meanwhile.
func (h *host) within(list []plan.Join, f func() error) error {
	if len(list) == 0 {
		return f()
	}
	runtime.LockOSThread()
	home := true
	defer func() {
		if home { // else it is of no use to others, and stays ours
			runtime.UnlockOSThread()
		}
	}()
	for _, j := range list {
		own, err := unix.Open("/proc/thread-self/ns/"+j.Namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return errs.Wrap("open own namespace", j.Namespace, err)
		}
		defer unix.Close(own)
		flag, err := numbers.Namespace(j.Namespace) // a path to a namespace of another kind is an error
		if err != nil {
			return err
		}
		if err := unix.Setns(h.fd(j.FD), int(flag)); err != nil {
			return errs.Wrap(j.String(), "", err)
		}
		defer func() {
			home = unix.Setns(own, 0) == nil && home
		}()
	}
	return f()
}

// cloneHint says what the usual refusals of clone3 mean.
func cloneHint(err error) error {
	e := errs.New(errs.KindOf(err), "clone", "", err)
	switch err {
	case unix.EPERM:
		return e.WithHint("creating namespaces is not allowed here: run as root, or see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone")
	case unix.ENOSPC:
		return e.WithHint("a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces")
	case unix.EAGAIN:
		return e.WithHint("a limit on processes is reached: see ulimit -u and the pids cgroup")
	case unix.ENOSYS, unix.EINVAL:
		return e.WithHint("this kernel is too old or built without a namespace; corten doctor lists what it lacks")
	}
	return e
}

func (h *host) mapIDs(s plan.MapIDs) error {
	if err := writeFile(h.procFile("uid_map"), mapText(s.UID)); err != nil {
		return err
	}
	return writeFile(h.procFile("gid_map"), mapText(s.GID))
}

// mapUsers makes a user namespace by a process that is gone again: the descriptor keeps it.
func mapUsers(s plan.MapUsers) (int, error) {
	c, err := kernel.StartChild(kernel.ChildSpec{Flags: unix.CLONE_NEWUSER, Hold: true})
	if err != nil {
		return -1, err
	}
	defer c.Close()
	if err := writeFile(c.Proc("uid_map"), mapText(s.UID)); err != nil {
		return -1, err
	}
	if err := writeFile(c.Proc("gid_map"), mapText(s.GID)); err != nil {
		return -1, err
	}
	return unix.Open(c.Proc("ns/user"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func mapText(maps []spec.IDMap) string {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.Container, m.Host, m.Size)
	}
	return b.String()
}

// userNS opens the child's user namespace once.
func (h *host) userNS() (int, error) {
	const name = "ns:user"
	if fd, ok := h.fds[name]; ok {
		return fd, nil
	}
	fd, err := unix.Open(h.procFile("ns/user"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		h.put(name, fd)
	}
	return fd, err
}

func (h *host) idmap(s plan.IDMap) error {
	ns := h.fd(s.By)
	if s.By == "" {
		var err error
		if ns, err = h.userNS(); err != nil {
			return err
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	flags := uint(unix.AT_EMPTY_PATH)
	if s.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(h.fd(s.Mount), "", flags, &attr)
	if err == unix.EINVAL && s.Optional {
		return nil // its file system cannot be shifted: the container sees its owners as nobody
	}
	if err == unix.EINVAL {
		return errs.New(errs.Unsupported, "", "", err).
			WithHint("the file system cannot shift owners (idmapped mounts); corten doctor tells which can")
	}
	return err
}

func (h *host) restrict(s plan.Restrict) error {
	attr := unix.MountAttr{Attr_set: uint64(numbers.Attrs(s.ReadOnly, s.NoSuid, s.NoDev, s.NoExec))}
	switch s.Propagation {
	case "private":
		attr.Propagation = unix.MS_PRIVATE
	case "slave":
		attr.Propagation = unix.MS_SLAVE
	case "shared":
		attr.Propagation = unix.MS_SHARED
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if s.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(h.fd(s.Mount), "", flags, &attr)
}

// ownStdio opens pipes only: a terminal, a socket or a named file that the user redirected
// to stays as it is. The group may read stdin and write stdout and stderr; the owner stays
// the one on the host, so that the container's root is no owner and cannot change that.
func (h *host) ownStdio(gid uint32) error {
	for i, mode := range [3]uint32{0o640, 0o620, 0o620} {
		fd := h.stdio[i]
		var fs unix.Statfs_t
		if fd < 0 || unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PIPEFS_MAGIC {
			continue
		}
		err := unix.Fchown(fd, -1, int(gid))
		if err == nil {
			err = unix.Fchmod(fd, mode)
		}
		if err != nil && err != unix.EPERM { // another user's pipe: the container has it, and cannot open it again
			return err
		}
	}
	return nil
}

// stdioOf is what the container gets as stdin, stdout and stderr: our own or what the plan
// says; -1 for none of the host's.
func stdioOf(p plan.Plan, env Env) [3]int {
	fds := [3]int{0, 1, 2}
	for _, s := range p.Child {
		std, ok := s.(plan.Stdio)
		if !ok {
			continue
		}
		if std.Terminal {
			return [3]int{-1, -1, -1}
		}
		if std.NoStdin {
			fds[0] = -1
		}
		for i, a := range [3]plan.Handle{std.In, std.Out, std.Err} {
			if f, ok := env.Files[a]; ok {
				fds[i] = int(f.Fd())
			}
		}
	}
	return fds
}

// refuseFolders refuses an open directory as stdin, stdout or stderr: by ".." it would lead
// to all of the host that others may see.
func (h *host) refuseFolders() error {
	for i, name := range [3]string{"stdin", "stdout", "stderr"} {
		var st unix.Stat_t
		if fd := h.stdio[i]; fd >= 0 && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return errs.Newf(errs.Invalid, "hand over", name, "it is a directory, from which the container could walk through the host").
				WithHint("mount the directory with -v")
		}
	}
	return nil
}

// attributes changes a detached mount.
func (h *host) attributes(s plan.Attributes) error {
	attr := numbers.Change(s.Set, s.Clear)
	attr.Propagation = numbers.Propagation(s.Propagation)
	flags := uint(unix.AT_EMPTY_PATH)
	if s.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(h.fd(s.Mount), "", flags, &attr)
}

// giveStdio gives what is a pipe, with or without a name; anything else others may use, too.
func (h *host) giveStdio(s bundled.GiveStdio) error {
	uid := s.UID
	if s.Inside {
		var ok bool
		if uid, ok = h.hostUser(uid); !ok {
			return nil
		}
	}
	for _, fd := range h.stdio {
		var st unix.Stat_t
		if fd < 0 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Uid == uid {
			continue
		}
		if err := unix.Fchown(fd, int(uid), -1); err != nil && err != unix.EPERM && err != unix.EROFS {
			return err
		}
	}
	return nil
}

// hostUser is a user of the new process's namespace as ours numbers it (user_namespaces(7), "uid_map").
func (h *host) hostUser(uid uint32) (uint32, bool) {
	text, _ := os.ReadFile(h.procFile("uid_map"))
	for line := range strings.Lines(string(text)) {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil && uint64(uid) >= inside && uint64(uid) < inside+size {
			return uint32(outside + uint64(uid) - inside), true
		}
	}
	return 0, false
}
