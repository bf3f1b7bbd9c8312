// Package content reads and changes the files of a container from outside, while it runs or
// not.
//
// A Root is a container's root as a directory descriptor, opened for one command. Of a
// container that runs it is what its PID 1 sees, with volumes and mounts. Of one that does
// not it is an overlay of its layers in a mount namespace that nobody else has, with its
// volumes. Either goes with its last descriptor, whatever happens to this process. The other
// way in, launch.OpenRoot, shows what is stored, without any mounts: for Export and Diff.
//
// A container is hostile. It may change its files while they are looked at: every path in it
// is resolved by the kernel with its root as root (openat2(2), RESOLVE_IN_ROOT), never by
// comparing first and opening later; what is not known to be a regular file or directory is
// opened with O_PATH only, so that nobody waits for a FIFO and no device notices; and the
// names of what it holds become files outside only below the directory that the user named.
package content

import (
	"errors"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/tree"
)

// Container is what has to be known of a container to reach its files.
type Container struct {
	Name    string
	Parts   plan.Root // what its root is made of
	Process *os.File  // pidfd of its PID 1; nil if it does not run
	PID     int       // the same as a number

	// For one that does not run:
	ReadOnly bool    // its root is not to be written to
	Mounts   []Mount // what it mounts of the host, those nearest to the root first

	// Foreign is the range of ids of one that is made on the host's own root, running or not.
	// Files there belong to others, and whoever copies for the container may read no more of
	// them than it: its symlinks could lead to them.
	Foreign []spec.IDMap
}

// Mount is something of the host that a container mounts.
type Mount struct {
	Source, Target      string
	Recursive, ReadOnly bool
}

// Root is the root of a container. All that is done to files in it happens on one thread,
// which has the container's mounts and creates files as the container's root.
type Root struct {
	name string
	fd   int // O_PATH
	ids  ids
	work chan func()
}

// OpenRoot opens a container's root. To write to one that does not run, the caller has its
// lock.
func OpenRoot(c Container, write bool) (*Root, error) {
	r := &Root{name: c.Name, work: make(chan func())}
	prepare := func() error { return r.live(c) }
	if c.Process == nil {
		prepare = func() error { return r.still(c, write) }
	}
	ready := make(chan error)
	onThread(func() {
		ready <- prepare()
		for f := range r.work {
			f()
		}
	})
	if err := <-ready; err != nil {
		close(r.work)
		return nil, errs.Wrap("open root of container", c.Name, err)
	}
	return r, nil
}

// Close gives the root up.
func (r *Root) Close() {
	_ = unix.Close(r.fd)
	close(r.work)
}

// do runs f on the root's thread.
func (r *Root) do(f func() error) error { return doer(r.work)(f) }

// onThread runs f on a thread of its own, which ends with f: what f changes of it is gone.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		// The first thread would not end, and the whole process is seen through it.
		if unix.Gettid() == unix.Getpid() {
			done := make(chan struct{})
			onThread(func() { defer close(done); f() }) // on another one, since this one is taken
			<-done
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
}

// live opens the root of a container that runs.
func (r *Root) live(c Container) error {
	proc := "/proc/" + strconv.Itoa(c.PID)
	fd, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.fd = fd
	r.ids, err = readIDs(proc)
	if err == nil {
		// Only now it is sure that the number was not another process's.
		err = unix.PidfdSendSignal(int(c.Process.Fd()), 0, nil, 0)
	}
	if err == nil {
		err = r.ids.become(c.Foreign != nil)
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

// still mounts the root of a container that does not run, and what it mounts, in a mount
// namespace of this thread.
func (r *Root) still(c Container, write bool) error {
	view := launch.RootRead
	if write {
		view = launch.RootWrite
	}
	var shift *launch.Shift
	if c.Foreign != nil {
		ns, err := detached.UserNS(c.Foreign)
		if err != nil {
			return err
		}
		defer ns.Close()
		r.ids = ids{c.Foreign, c.Foreign}
		uid, gid, err := r.ids.root()
		if err != nil {
			return err
		}
		shift = &launch.Shift{NS: ns, Root: plan.Owner{UID: uid, GID: gid}}
	}
	root, err := launch.OpenRoot(c.Parts, view, shift)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return errs.Wrap("make mount namespace", "", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return errs.Wrap("make mounts private", "", err)
	}
	// Anywhere: it is reached by its descriptor only.
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, "/dev", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return errs.Wrap("mount root", "", err)
	}
	if r.fd, err = unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	for _, m := range c.Mounts {
		if err := r.attach(m, shift); err != nil {
			_ = unix.Close(r.fd)
			return errs.Wrap("mount", m.Source+" at "+m.Target, err)
		}
	}
	if c.ReadOnly && write {
		// Only now: the places of mounts may have been made in it.
		err = unix.MountSetattr(r.fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err == nil && shift != nil {
		err = r.ids.become(true)
	}
	if err != nil {
		_ = unix.Close(r.fd)
	}
	return err
}

// attach mounts m. What is gone from the host is left out, and so is, in a view for reading,
// what has no place because the container never ran.
func (r *Root) attach(m Mount, shift *launch.Shift) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	mnt, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	recursive := flags & unix.AT_RECURSIVE
	if err := unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH|recursive, &attr); err != nil {
		return err
	}
	if shift != nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(shift.NS.Fd())}
		if err := unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH|recursive, &attr); err != nil && err != unix.EINVAL {
			return err // EINVAL: its file system cannot, and the container does not see it shifted either
		}
	}
	at, err := r.inside().open(m.Target, unix.O_PATH)
	if err == unix.ENOENT {
		if err := r.makePlace(mnt, clean(m.Target)[1:]); err != nil {
			return unlessReadOnly(err)
		}
		at, err = r.inside().open(m.Target, unix.O_PATH)
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(mnt, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// makePlace makes a directory or an empty file to mount mnt on, as the container's start
// would.
func (r *Root) makePlace(mnt int, target string) error {
	kind, err := kindOf(mnt)
	if err != nil {
		return err
	}
	m := newMaker(r.fd)
	m.follow = func(dir string) (int, error) { return r.inside().open(dir, unix.O_PATH|unix.O_DIRECTORY) }
	if kind == unix.S_IFDIR {
		err = m.makeParents(target)
	} else {
		err = m.put(&tree.Entry{Path: target, Type: tree.Regular, Mode: 0o644}, zeros{})
	}
	return errors.Join(err, m.finish())
}

func unlessReadOnly(err error) error {
	if errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// inside is where paths of the container are looked up.
func (r *Root) inside() place {
	return place{at: r.fd, resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
}

// ids are the owners of a container that runs as this process sees them. Of one that does
// not run they are as they are stored: the zero value.
type ids struct {
	uid, gid []spec.IDMap
}

// overflow is what an owner is to a container that does not know it (/proc/sys/kernel/overflowuid).
const overflow = 65534

// readIDs reads uid_map and gid_map: those that the container has now, which may not be
// those of its description.
func readIDs(proc string) (ids, error) {
	var x ids
	var err error
	if x.uid, err = readMap(proc + "/uid_map"); err == nil {
		x.gid, err = readMap(proc + "/gid_map")
	}
	return x, err
}

func toHost(maps []spec.IDMap, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), true
		}
	}
	return id, len(maps) == 0
}

func fromHost(maps []spec.IDMap, id uint32) uint32 {
	for _, m := range maps {
		if id >= m.Host && id-m.Host < m.Size {
			return m.Container + (id - m.Host)
		}
	}
	if len(maps) == 0 {
		return id
	}
	return overflow
}

// root is the container's root as this process sees it.
func (x ids) root() (uid, gid uint32, err error) {
	uid, ok1 := toHost(x.uid, 0)
	gid, ok2 := toHost(x.gid, 0)
	if !ok1 || !ok2 {
		return 0, 0, errs.Newf(errs.Unsupported, "find root of container", "", "it has no user 0")
	}
	return uid, gid, nil
}
