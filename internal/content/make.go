package content

import (
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// maker is a sink that makes files below a directory. What it finds there it treats as
// Docker does: directories are gone into, everything else is replaced, but never a directory
// by something else nor something else by a directory. Unlike Docker it leaves owner and mode
// of directories that are there as they are.
type maker struct {
	top   int // O_PATH
	ids   ids
	owner *owner // of all that is made; nil: as each file says
	tame  bool   // without rights that come with a file
	skip  func(path string)

	noDevices bool
	follow    func(parent string) (int, error) // opens a directory; nil: no symlink is followed

	parent   string // parentFD is open at it
	parentFD int    // -1: none
	dirs     []dated
}

// owner is ids of the container, or of the host where files are made on that.
type owner struct{ uid, gid uint32 }

// dated is a directory whose time is set when all that is in it has been made.
type dated struct {
	path string
	time unix.Timespec
}

func newMaker(top int) *maker {
	return &maker{top: top, parentFD: -1, skip: func(string) {}}
}

// in opens the directory that holds path.
func (m *maker) in(path string) (int, error) {
	parent := tree.Parent(path)
	if m.parentFD >= 0 {
		if parent == m.parent {
			return m.parentFD, nil
		}
		_ = unix.Close(m.parentFD)
		m.parentFD = -1
	}
	fd, err := m.folder(parent)
	if err == nil {
		m.parent, m.parentFD = parent, fd
	}
	return fd, err
}

// folder opens a directory below the top. Ways out of it and, unless they are the
// container's own, symlinks are refused by the kernel.
func (m *maker) folder(dir string) (int, error) {
	if m.follow != nil {
		return m.follow(dir)
	}
	return place{at: m.top, resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}.
		open(dir, unix.O_PATH|unix.O_DIRECTORY)
}

func (m *maker) put(e *tree.Entry, content io.Reader) error {
	if e.Path == "" { // the directory itself, which is the user's own
		return nil
	}
	if m.noDevices && (e.Type == tree.Char || e.Type == tree.Block) {
		m.skip(e.Path)
		return nil
	}
	dir, err := m.in(e.Path)
	if err == unix.ENOENT && m.follow != nil { // a tar need not name the directories of its files
		if err = m.makeParents(tree.Parent(e.Path)); err == nil {
			dir, err = m.in(e.Path)
		}
	}
	if err == nil {
		err = m.make(dir, path.Base(e.Path), e, content)
	}
	return m.wrap(e.Path, err)
}

func (m *maker) wrap(path string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EROFS:
		return errs.New(errs.Denied, "write", shown(path), err).WithHint("the container has it read-only: choose a place in a volume that it may write to")
	case unix.ELOOP, unix.EXDEV:
		return errs.New(errs.Denied, "write", shown(path), err).WithHint("a symlink is in the way: remove it, or copy to where it leads")
	}
	return errs.Wrap("write", shown(path), err)
}

// makeParents makes directories that are missing, with the mode that mkdir -p gives.
func (m *maker) makeParents(dir string) error {
	e := &tree.Entry{Path: dir, Type: tree.Dir, Mode: 0o755}
	at, err := m.in(dir)
	if err == unix.ENOENT && dir != "" {
		if err = m.makeParents(tree.Parent(dir)); err == nil {
			at, err = m.in(dir)
		}
	}
	if err != nil {
		return err
	}
	fd, made, err := m.directory(at, path.Base(dir))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !made { // by somebody else just now
		return nil
	}
	return m.dress(at, path.Base(dir), fd, e)
}

// make makes e as a name of an open directory.
func (m *maker) make(dir int, name string, e *tree.Entry, content io.Reader) error {
	if e.Type == tree.Dir {
		fd, made, err := m.directory(dir, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if !made {
			return nil
		}
		m.dirs = append(m.dirs, dated{e.Path, timeOf(e)})
		return m.dress(dir, name, fd, e)
	}
	mounted, err := makeRoom(dir, name, e)
	if err != nil {
		return err
	}
	if mounted >= 0 {
		defer unix.Close(mounted)
		return overwrite(mounted, e, content)
	}
	switch e.Type {
	case tree.Regular:
		return m.file(dir, name, e, content)
	case tree.Hardlink:
		return m.link(dir, name, e)
	case tree.Symlink:
		if err := unix.Symlinkat(e.Link, dir, name); err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(dir, name, e.Type.Mode()|0o600, int(unix.Mkdev(e.Major, e.Minor))); err != nil {
			return err
		}
	}
	fd, err := below(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if kind, err := kindOf(fd); err != nil || kind != e.Type.Mode() {
		return errs.Newf(errs.Busy, "", "", "somebody else changes it")
	}
	return m.dress(dir, name, fd, e)
}

// directory makes a directory, or opens the one that is there.
func (m *maker) directory(dir int, name string) (fd int, made bool, err error) {
	err = unix.Mkdirat(dir, name, 0o700)
	if err != nil && err != unix.EEXIST && err != unix.EROFS {
		return -1, false, err
	}
	fd, openErr := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case openErr == nil:
		return fd, err == nil, nil
	case err == unix.EROFS:
		return -1, false, err
	case openErr == unix.ENOTDIR || openErr == unix.ELOOP:
		return -1, false, errs.New(errs.Exists, "", "", openErr).WithHint("a directory cannot be copied over a file or symlink: remove that first")
	}
	return -1, false, openErr
}

// makeRoom removes what has the name, unless it is a directory. A regular file that is
// mounted there is returned, to be written to: removed from outside the container's mount
// namespace, its mount would go with it (mount_namespaces(7), "Restrictions"). -1: there is
// room.
func makeRoom(dir int, name string, e *tree.Entry) (int, error) {
	fd, err := below(dir, name)
	if err == unix.ENOENT {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	var st unix.Statx_t
	if err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err == nil {
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = errs.New(errs.Exists, "", "", unix.EISDIR).WithHint("a file cannot be copied over a directory: remove that first")
		case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0: // Linux 5.8
			if err = unix.Unlinkat(dir, name, 0); err == unix.ENOENT {
				err = nil
			}
		case e.Type == tree.Regular && st.Mode&unix.S_IFMT == unix.S_IFREG:
			return fd, nil
		default:
			err = errs.New(errs.Busy, "", "", unix.EBUSY).WithHint("something is mounted there: change it where it comes from, on the host")
		}
	}
	_ = unix.Close(fd)
	return -1, err
}

func (m *maker) file(dir int, name string, e *tree.Entry, content io.Reader) error {
	if kernels(dir) {
		return errs.Newf(errs.Denied, "", "", "the directory is made up by the kernel")
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := fill(f, e, content); err != nil {
		return err
	}
	return m.dress(dir, name, int(f.Fd()), e)
}

// overwrite gives a file that is open with O_PATH another content, and leaves it its owner
// and mode.
func overwrite(fd int, e *tree.Entry, content io.Reader) error {
	if kernels(fd) {
		return errs.Newf(errs.Denied, "", "", "it is made up by the kernel")
	}
	w, err := unix.Open(self(fd), unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(w), e.Path)
	defer f.Close()
	return fill(f, e, content)
}

func fill(f *os.File, e *tree.Entry, content io.Reader) error {
	if src, ok := content.(*os.File); ok {
		return disk.Copy(f, src)
	}
	return spread(f, content, e.Size)
}

// spread writes size bytes, and leaves holes where they are zero.
func spread(f *os.File, r io.Reader, size int64) error {
	buf := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; {
		b := buf[:min(int64(len(buf)), size-off)]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if err := disk.WriteSparse(f, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return f.Truncate(size)
}

// link makes another name of a file that was made before.
func (m *maker) link(dir int, name string, e *tree.Entry) error {
	from, err := m.folder(tree.Parent(e.Link))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return unix.Linkat(from, path.Base(e.Link), dir, name, 0)
}

// dress sets the metadata of what is open at fd and has just been made as name, in an order
// in which nothing undoes what was set: chown takes set-id bits and capabilities away.
func (m *maker) dress(dir int, name string, fd int, e *tree.Entry) error {
	uid, gid, err := m.ownerOf(e)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if e.Type == tree.Symlink {
		ts := timeOf(e)
		return unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	mode := uint32(e.Mode)
	if m.tame && e.Type != tree.Dir {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, self(fd), mode, 0); err != nil {
		return err
	}
	for _, x := range e.Xattrs {
		value := x.Value
		if x.Name == capability {
			if m.tame {
				continue
			}
			value = m.ids.capsOutside(value)
		}
		if err := unix.Setxattr(self(fd), x.Name, value, 0); unlessNone(err) != nil {
			return errs.Wrap("set attribute", x.Name, err)
		}
	}
	return setTime(fd, timeOf(e))
}

// ownerOf is the owner of e here.
func (m *maker) ownerOf(e *tree.Entry) (uid, gid uint32, err error) {
	o := owner{e.UID, e.GID}
	if m.owner != nil {
		o = *m.owner
	}
	uid, ok1 := toHost(m.ids.uid, o.uid)
	gid, ok2 := toHost(m.ids.gid, o.gid)
	if !ok1 || !ok2 {
		return 0, 0, errs.Newf(errs.Invalid, "", "", "the container does not have its owner").WithHint("leave out --archive: the files then belong to the container's root")
	}
	return uid, gid, nil
}

func timeOf(e *tree.Entry) unix.Timespec { return unix.Timespec{Sec: e.MTime, Nsec: int64(e.NSec)} }

func setTime(fd int, ts unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, self(fd), []unix.Timespec{ts, ts}, 0)
}

// finish sets the times of directories, the inner ones first. One that is gone by now is
// not missed.
func (m *maker) finish() error {
	if m.parentFD >= 0 {
		_ = unix.Close(m.parentFD)
		m.parentFD = -1
	}
	for i := len(m.dirs) - 1; i >= 0; i-- {
		fd, err := m.folder(m.dirs[i].path)
		if err != nil {
			continue
		}
		err = setTime(fd, m.dirs[i].time)
		_ = unix.Close(fd)
		if err != nil {
			return m.wrap(m.dirs[i].path, err)
		}
	}
	return nil
}
