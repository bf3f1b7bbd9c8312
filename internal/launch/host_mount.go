package launch

import (
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/plan"
)

// asOwner runs f with the file system identity of the container's root: what f creates belongs
// to the container, and an overlay that f makes creates files as that owner for as long as it lives.
func asOwner(o plan.Owner, f func() error) error {
	if o.UID == 0 && o.GID == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	undo, err := kernel.FilesAs(o.UID, o.GID)
	if err != nil {
		return errs.New(errs.Denied, "take the file system identity", o.String(), err).
			WithHint("it takes CAP_SETPCAP, and CAP_SETUID and CAP_SETGID over that user and group")
	}
	defer undo()
	return f()
}

// mountImage mounts an EROFS file, detached: straight from the file (Linux 6.12), else
// through a loop device that goes away with the mount.
func mountImage(file string) (int, error) {
	fd, err := newFS("erofs", unix.MOUNT_ATTR_RDONLY, "source="+file)
	if !errors.Is(err, unix.ENOTBLK) {
		return fd, err
	}
	loop, err := kernel.AttachLoop(file)
	if err != nil {
		return -1, err
	}
	defer loop.Close()
	return newFS("erofs", unix.MOUNT_ATTR_RDONLY, "ro", "source="+loop.Path())
}

// newFS makes a detached mount of a new file system. What the kernel wrote about a refusal
// is part of the error.
func newFS(fstype string, attrs int, options ...string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if err == unix.ENODEV {
			return -1, errs.New(errs.Unsupported, "open file system", fstype, err).
				WithHint("the kernel has no " + fstype + "; corten doctor says how to get it")
		}
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		name, value, isString := strings.Cut(o, "=")
		if isString {
			err = unix.FsconfigSetString(fs, name, value)
		} else {
			err = unix.FsconfigSetFlag(fs, name)
		}
		if err != nil {
			return -1, withLog(fs, "set "+o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, withLog(fs, "create "+fstype, err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
}

// withLog adds the messages that the kernel left on a file system context (fsopen(2)).
func withLog(fs int, what string, err error) error {
	var lines []string
	buf := make([]byte, 1024)
	for {
		n, e := unix.Read(fs, buf)
		if e != nil || n <= 0 {
			break
		}
		if line := strings.TrimSpace(string(buf[:n])); len(line) > 2 {
			lines = append(lines, line[2:]) // "e text", "w text", "i text"
		}
	}
	if len(lines) == 0 {
		return errs.Wrap(what, "", err)
	}
	return errs.Wrap(what, "", &kernelSays{err, strings.Join(lines, "; ")})
}

// kernelSays is an errno with the kernel's own explanation.
type kernelSays struct {
	err  error
	text string
}

func (e *kernelSays) Error() string { return e.err.Error() + " (" + e.text + ")" }
func (e *kernelSays) Unwrap() error { return e.err }

// overlay makes the root. Layers are given by the paths of their descriptors, so that
// they may be detached, idmapped mounts that no path leads to. Before Linux 6.15 they may
// not be detached (EINVAL).
func (h *host) overlay(s plan.Overlay) (int, error) {
	parts, err := h.isolate(s)
	if err != nil {
		return -1, err
	}
	fd, err := h.overlayOn(s)
	if errors.Is(err, unix.EINVAL) {
		return h.overlayAttached(s, parts)
	}
	return fd, err
}

// isolate makes the overlay's parts private and returns them. They will be mounted over one
// another (hangAside, plan.Stow): over a peer of the mount on the host that it was cloned
// from, that would be mounted on the host as well (mount_namespaces(7), "Shared subtrees").
func (h *host) isolate(s plan.Overlay) ([]plan.Handle, error) {
	parts := slices.Concat(s.Lower, s.Data, []plan.Handle{s.Writable})
	for _, a := range parts {
		if err := unix.MountSetattr(h.fd(a), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
			return nil, errs.Wrap("make private", string(a), err)
		}
	}
	return parts, nil
}

// overlayOn makes the overlay on its layers as they are.
func (h *host) overlayOn(s plan.Overlay) (fd int, err error) {
	path := func(a plan.Handle) string { return "/proc/self/fd/" + strconv.Itoa(h.fd(a)) }
	var lower strings.Builder
	for i, a := range s.Lower {
		if i > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString(path(a))
	}
	options := []string{"source=overlay"} // what df shows
	for _, a := range s.Data {
		lower.WriteString("::" + path(a))
	}
	options = append(options, "lowerdir="+lower.String(),
		"upperdir="+path(s.Writable)+"/upper", "workdir="+path(s.Writable)+"/work")
	if len(s.Data) > 0 {
		options = append(options, "metacopy=on", "redirect_dir=on")
	}
	if s.User {
		options = append(options, "userxattr")
	}
	if s.Volatile {
		options = append(options, "volatile")
	}
	if s.Label != "" {
		options = append(options, "context="+s.Label)
	}
	err = asOwner(s.Root, func() error {
		fd, err = newFS("overlay", int(mountAttrs(false, false, s.NoDev, false)), options...)
		if err != nil {
			return err
		}
		if err := writable(fd, h.fd(s.Writable)); err != nil {
			_ = unix.Close(fd)
			return err
		}
		return nil
	})
	return fd, err
}

// writable says why an overlay cannot be written to. The kernel makes it read-only, without
// an error, when it cannot make directories of its own below work.
func writable(overlay, layer int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(overlay, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
		return err
	}
	const probe = "work/probe"
	err := unix.Mkdirat(layer, probe, 0o700)
	if err == nil {
		_ = unix.Unlinkat(layer, probe, unix.AT_REMOVEDIR)
		err = unix.EROFS
	}
	return errs.Wrap("make directories of the overlay", "", err)
}

// overlayAttached makes the overlay while its parts are mounted in a namespace that nobody
// else sees. The overlay has clones of its own of them, and is itself detached, so it
// outlives that namespace. The parts do not: they are left mounted nowhere.
func (h *host) overlayAttached(s plan.Overlay, parts []plan.Handle) (fd int, err error) {
	err = aside(func() error {
		for _, a := range parts {
			if err := hangAside(h.fd(a)); err != nil {
				return errs.Wrap("mount", string(a), err)
			}
		}
		fd, err = h.overlayOn(s)
		return err
	})
	return fd, err
}

// aside runs f on a thread with a mount namespace of its own, which ends with the thread.
// What is mounted there does not show elsewhere.
func aside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		// The first thread would not end, and the whole process is seen through it.
		if unix.Gettid() == unix.Getpid() {
			done <- aside(f) // on another one, since this one is taken
			runtime.UnlockOSThread()
			return
		}
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			done <- errs.Wrap("make mount namespace", "", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// hangAside mounts a detached, private mount somewhere in a namespace that aside made. They
// pile up on a directory that nothing looks into.
func hangAside(mnt int) error {
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, "/dev", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// makeDev makes a small tmpfs with the device nodes and the usual links.
func makeDev(s plan.MakeDev) (int, error) {
	fd, err := newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "source=tmpfs", "size=65536k", "mode=0755",
		"uid="+strconv.Itoa(int(s.Root.UID)), "gid="+strconv.Itoa(int(s.Root.GID)))
	if err != nil {
		return -1, err
	}
	if err := fillDev(fd, s); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func fillDev(fd int, s plan.MakeDev) error {
	for _, n := range s.Nodes {
		name, ok := strings.CutPrefix(n.Path, "/dev/")
		if !ok {
			return errs.Newf(errs.Invalid, "make device", n.Path, "devices are made below /dev only")
		}
		for i := range name {
			if name[i] == '/' {
				if err := makeDir(fd, name[:i]); err != nil {
					return errs.Wrap("make directory", n.Path, err)
				}
			}
		}
		mode := uint32(unix.S_IFCHR)
		if n.Type == "b" {
			mode = unix.S_IFBLK
		}
		err := unix.Mknodat(fd, name, mode, int(unix.Mkdev(n.Major, n.Minor)))
		if err == nil {
			err = unix.Fchmodat(fd, name, n.Mode, 0)
		}
		if err != nil {
			return errs.Wrap("make device", n.Path, err)
		}
	}
	for _, l := range [...][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}, {"pts/ptmx", "ptmx"},
	} {
		if err := unix.Symlinkat(l[0], fd, l[1]); err != nil {
			return errs.Wrap("make link", "/dev/"+l[1], err)
		}
	}
	if s.Console { // the first terminal of the container's devpts
		if err := unix.Symlinkat("pts/0", fd, "console"); err != nil && err != unix.EEXIST {
			return errs.Wrap("make link", "/dev/console", err)
		}
	}
	for _, d := range [...]string{"pts", "shm", "mqueue"} {
		if err := makeDir(fd, d); err != nil {
			return errs.Wrap("make directory", "/dev/"+d, err)
		}
	}
	return nil
}

// makeDir makes a directory of mode 0755, if there is none. The mode is set afterwards: the
// umask belongs to the whole process, and whatever it does meanwhile needs it.
func makeDir(at int, name string) error {
	err := unix.Mkdirat(at, name, 0)
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Fchmodat(at, name, 0o755, 0)
}

// makeFile writes the file and takes a mount of it. Its name goes once the mount is in place
// (plan.Attach, Forget): a mount whose file has no name cannot be moved.
func makeFile(dir int, s plan.MakeFile) (int, error) {
	fd, err := unix.Openat(dir, s.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, 0o644); err != nil { // whatever the caller's umask is
		return -1, err
	}
	if _, err := unix.Write(fd, []byte(s.Content)); err != nil {
		return -1, err
	}
	mnt, err := unix.OpenTree(dir, s.Name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == unix.EINVAL {
		return cloneAttached(dir, s.Name)
	}
	return mnt, err
}

// cloneAttached takes a mount of a file in a detached mount, which before Linux 6.15 nothing
// can be cloned from. That mount is attached for it, and as it could not be detached again,
// its descriptor gets another detached clone of it.
func cloneAttached(dir int, name string) (mnt int, err error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	err = aside(func() error {
		if err := hangAside(dir); err != nil {
			return err
		}
		clone, err := unix.OpenTree(dir, "", flags|unix.AT_EMPTY_PATH)
		if err != nil {
			return err
		}
		defer unix.Close(clone)
		mnt, err = unix.OpenTree(dir, name, flags)
		if err != nil {
			return err
		}
		return unix.Dup3(clone, dir, unix.O_CLOEXEC)
	})
	return mnt, err
}
