// Package detached makes mounts that are mounted nowhere yet: new file systems, images, the small
// ones that are made for each container.
package detached

import (
	"errors"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/plan"
)

// Image mounts an EROFS file, detached: straight from the file (Linux 6.12), else
// through a loop device that goes away with the mount.
func Image(file string) (int, error) {
	fd, err := New("erofs", unix.MOUNT_ATTR_RDONLY, "source="+file)
	if !errors.Is(err, unix.ENOTBLK) {
		return fd, err
	}
	loop, err := kernel.AttachLoop(file)
	if err != nil {
		return -1, err
	}
	defer loop.Close()
	return New("erofs", unix.MOUNT_ATTR_RDONLY, "ro", "source="+loop.Path())
}

// New makes a detached mount of a new file system. What the kernel wrote about a refusal
// is part of the error.
func New(fstype string, attrs int, options ...string) (int, error) {
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

// Apart runs f on a thread of its own, which ends with it: what f changes of the thread is gone then.
func Apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		// The first thread would not end, and the whole process is seen through it.
		if unix.Gettid() == unix.Getpid() {
			done <- Apart(f) // on another one, since this one is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// Aside runs f on a thread with a mount namespace of its own, which ends with the thread.
// What is mounted there does not show elsewhere.
func Aside(f func() error) error {
	return Apart(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			return errs.Wrap("make mount namespace", "", err)
		}
		return f()
	})
}

// Hang mounts a detached, private mount somewhere in a namespace that aside made. They
// pile up on a directory that nothing looks into.
func Hang(mnt int) error {
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, "/dev", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Dev makes a small tmpfs with the device nodes and the usual links.
func Dev(s plan.MakeDev) (int, error) {
	options := []string{"source=tmpfs", "size=65536k", "mode=0755", "uid=" + strconv.Itoa(int(s.Root.UID)), "gid=" + strconv.Itoa(int(s.Root.GID))}
	if s.Label != "" {
		options = append(options, "context="+s.Label)
	}
	fd, err := New("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, options...)
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

// File writes the file and takes a mount of it. Its name goes once the mount is in place
// (plan.Attach, Forget): a mount whose file has no name cannot be moved.
func File(dir int, s plan.MakeFile) (int, error) {
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
		return CloneAttached(dir, s.Name)
	}
	return mnt, err
}

// CloneAttached takes a mount of a file in a detached mount, which before Linux 6.15 nothing
// can be cloned from. That mount is attached for it, and as it could not be detached again,
// its descriptor gets another detached clone of it.
func CloneAttached(dir int, name string) (mnt int, err error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	err = Aside(func() error {
		if err := Hang(dir); err != nil {
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
