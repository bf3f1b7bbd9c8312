package content

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// sink is where files go, one after the other, a directory before what is in it: a
// directory (maker) or a tar (tarWriter).
type sink interface {
	// put takes a file, whose owners are the container's. content is that of a regular file,
	// perhaps an *os.File.
	put(e *tree.Entry, content io.Reader) error
}

// walker reads files and gives them to a sink. links remembers where a file of several names
// went first.
type walker struct {
	ctx   context.Context
	to    sink
	ids   ids
	acl   bool // take POSIX ACLs too; the ids in them are not translated
	skip  func(path string)
	links map[inode]string
	dev   uint64 // device of the directory that is being read
}

type inode struct{ dev, ino uint64 }

func newWalker(ctx context.Context, to sink) *walker {
	return &walker{ctx: ctx, to: to, skip: func(string) {}, links: map[inode]string{}}
}

// all walks through what is at fd (O_PATH), with everything below it. It becomes path.
func (w *walker) all(fd int, path string) error {
	if err := w.ctx.Err(); err != nil {
		return errs.New(errs.Canceled, "", "", err)
	}
	e, st, err := w.entry(fd, path)
	if err != nil {
		return errs.Wrap("read", shown(path), err)
	}
	if e.Type != tree.Dir {
		return w.leaf(fd, e, st)
	}
	before := w.dev
	defer func() { w.dev = before }()
	if st.Dev != w.dev {
		w.dev = st.Dev
		if kernels(fd) {
			return w.to.put(e, nil)
		}
	}
	if err := w.to.put(e, nil); err != nil {
		return err
	}
	d, err := folder(fd)
	if err != nil {
		return errs.Wrap("open", shown(path), err)
	}
	defer d.Close()
	return w.each(d, path)
}

// each walks through what is in a directory, in the order of the names.
func (w *walker) each(d *os.File, path string) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return errs.Wrap("list", shown(path), err)
	}
	slices.Sort(names)
	if path != "" {
		path += "/"
	}
	for _, name := range names {
		fd, err := below(int(d.Fd()), name)
		if err == unix.ENOENT {
			continue // removed since
		}
		if err == unix.EMFILE {
			return errs.New(errs.NoSpace, "open", shown(path+name), err).WithHint("the directories are too deep: allow more open files with ulimit -n")
		}
		if err != nil {
			return errs.Wrap("open", shown(path+name), err)
		}
		err = w.all(fd, path+name)
		_ = unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// leaf gives away what is no directory.
func (w *walker) leaf(fd int, e *tree.Entry, st *unix.Stat_t) error {
	if e.Type == tree.Socket { // nothing without who listens to it
		w.skip(e.Path)
		return nil
	}
	if st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := w.links[key]; ok {
			return w.to.put(&tree.Entry{Path: e.Path, Type: tree.Hardlink, Link: first}, nil)
		}
		w.links[key] = e.Path
	}
	if e.Type != tree.Regular {
		return w.to.put(e, nil)
	}
	if kernels(fd) {
		return errs.Newf(errs.Unsupported, "read", shown(e.Path), "it is made up by the kernel").WithHint("read it with corten exec CONTAINER cat")
	}
	f, err := reopen(fd)
	if err != nil {
		return errs.Wrap("open", shown(e.Path), err)
	}
	defer f.Close()
	return w.to.put(e, f)
}

// reopen opens for reading a regular file that is open with O_PATH: nothing can come in its
// place any more.
func reopen(fd int) (*os.File, error) {
	f, err := unix.Open(self(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(f), "file"), nil
}

// entry describes what is open at fd.
func (w *walker) entry(fd int, path string) (*tree.Entry, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, err
	}
	e := &tree.Entry{
		Path: path, Mode: uint16(st.Mode & 0o7777), MTime: st.Mtim.Sec, NSec: uint32(st.Mtim.Nsec),
		UID: fromHost(w.ids.uid, st.Uid), GID: fromHost(w.ids.gid, st.Gid),
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = tree.Regular, st.Size
		e.Xattrs, err = w.xattrs(fd)
	case unix.S_IFDIR:
		e.Type = tree.Dir
		e.Xattrs, err = w.xattrs(fd)
	case unix.S_IFLNK:
		e.Type = tree.Symlink
		e.Link, err = readLink(fd, "")
	case unix.S_IFIFO:
		e.Type = tree.Fifo
	case unix.S_IFSOCK:
		e.Type = tree.Socket
	default:
		e.Type, e.Major, e.Minor = tree.Char, unix.Major(st.Rdev), unix.Minor(st.Rdev)
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = tree.Block
		}
	}
	return e, &st, err
}

// capability is the attribute of file capabilities, capabilities(7).
const capability = "security.capability"

// kept reports whether an attribute goes with a file: what is its data, and what gives it
// rights. All else is about the machine, or the overlay's own.
func (w *walker) kept(name string) bool {
	switch name {
	case capability:
		return true
	case "system.posix_acl_access", "system.posix_acl_default":
		return w.acl
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// xattrs reads the attributes of a file or directory.
func (w *walker) xattrs(fd int) ([]tree.Xattr, error) {
	n, err := unix.Listxattr(self(fd), nil)
	if n <= 0 || err != nil {
		return nil, unlessNone(err)
	}
	buf := make([]byte, n+256) // one may have come since
	if n, err = unix.Listxattr(self(fd), buf); err != nil {
		return nil, unlessNone(err)
	}
	var list []tree.Xattr
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !w.kept(name) {
			continue
		}
		value := make([]byte, tree.XattrValueMax)
		n, err := unix.Getxattr(self(fd), name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, errs.Wrap("read attribute", name, err)
		}
		if value = value[:n:n]; name == capability {
			value = w.ids.capsInside(value)
		}
		list = append(list, tree.Xattr{Name: name, Value: slices.Clone(value)})
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func unlessNone(err error) error {
	if err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

// kernels reports whether a file is one of a file system that the kernel makes up: to read
// it is to ask, and to write it to command.
func kernels(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.BINFMTFS_MAGIC,
		unix.SELINUX_MAGIC, mqueueMagic, configfsMagic:
		return true
	}
	return false
}

const (
	mqueueMagic   = 0x19800202 // ipc/mqueue.c
	configfsMagic = 0x62656570 // fs/configfs/mount.c
)
