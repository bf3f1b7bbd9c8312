// Package dirtree writes a tree as a plain directory, for kernels that cannot mount it as
// an EROFS image over objects.
//
// A tree comes in as a sorted list. Its files are made in that order, each within its
// directory's descriptor, then hard links, whose targets may come later in the list, then
// the metadata of directories, which making files in them would change. The directory
// becomes the one lower layer of an overlay mount. It costs what the EROFS image saves: a
// copy of every file for each tree, unless the file system shares blocks (btrfs, XFS).
//
// Equal trees give directories that stat, readlink, getxattr and read cannot tell apart,
// but for inode numbers and the times that nobody can set.
package dirtree

import (
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// Options say what the directory is for.
type Options struct {
	// UserXattr says that the overlay will be mounted with userxattr, as it is without
	// privilege: then it obeys attributes in user.overlay and not in trusted.overlay, and
	// trusted ones cannot be set at all.
	UserXattr bool

	// Alone says that there is nobody but the one who writes: files that should be another's are his.
	Alone bool
}

// Info tells of a tree that was written.
type Info struct {
	// Dropped counts extended attributes that Linux cannot keep where they were: of
	// namespaces that it has not, or user attributes of what is no file or directory. And devices
	// that only root may make.
	Dropped int
}

// Write makes the files of t in dir, which is empty. Objects are opened by open. After an
// error the directory holds a part and is of no use.
//
// A layer may come with attributes that overlayfs would obey, and with character devices
// 0:0, which it would take for whiteouts. They are escaped as in an EROFS tree, so that they
// can neither redirect nor hide a file here, and mean in an overlay mounted inside the
// container what they meant (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs
// mounts"; a kernel before 6.7 shows them escaped).
func Write(t *tree.Tree, dir string, open func(oci.Digest) (*os.File, error), opt Options) (Info, error) {
	w := writer{open: open, opt: opt, parentFD: -1, whiteouts: map[string]bool{}}
	if len(t.Entries) == 0 || t.Entries[0].Path != "" || t.Entries[0].Type != tree.Dir {
		return Info{}, errs.Newf(errs.Invalid, op, dir, "the tree does not begin with its root directory")
	}
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Info{}, errs.Wrap(op, dir, err)
	}
	w.root = root
	defer w.close()
	for _, pass := range []func(*tree.Entry) error{w.make, w.link} {
		for i := range t.Entries {
			if err := pass(&t.Entries[i]); err != nil {
				return Info{}, w.wrap(&t.Entries[i], err)
			}
		}
	}
	// From the end: what is in a directory is done before the directory itself.
	for i := len(t.Entries) - 1; i >= 0; i-- {
		if err := w.finish(&t.Entries[i]); err != nil {
			return Info{}, w.wrap(&t.Entries[i], err)
		}
	}
	return Info{Dropped: w.dropped}, nil
}

const op = "write directory tree"

// writer is one directory tree in the making.
type writer struct {
	root      int // descriptor of the root
	parent    string
	parentFD  int // descriptor of parent; -1 for none
	open      func(oci.Digest) (*os.File, error)
	opt       Options
	whiteouts map[string]bool // directories with escaped whiteouts
	dropped   int
}

func (w *writer) close() {
	if w.parentFD >= 0 {
		unix.Close(w.parentFD)
	}
	unix.Close(w.root)
}

func (w *writer) wrap(e *tree.Entry, err error) error {
	out := errs.New(errs.KindOf(err), op, strconv.Quote("/"+e.Path), err)
	switch {
	case err == unix.EPERM && (e.Type == tree.Char || e.Type == tree.Block):
		out.Hint = "only root may make devices: run as root, or use an image without them"
	case out.Kind == errs.Unsupported:
		out.Hint = "the file system of the state directory lacks something that this image needs: use ext4, XFS or btrfs"
	}
	return out
}

// in returns the descriptor of the directory that path is in, and path's last name. The
// kernel refuses ways through symlinks or out of the root: the tree may not have what it
// promises, and then nothing may be made elsewhere.
func (w *writer) in(path string) (int, string, error) {
	parent := tree.Parent(path)
	name := strings.TrimPrefix(path[len(parent):], "/")
	if parent == "" {
		return w.root, name, nil
	}
	if w.parentFD >= 0 {
		if parent == w.parent {
			return w.parentFD, name, nil
		}
		unix.Close(w.parentFD)
		w.parentFD = -1
	}
	fd, err := kernel.OpenAt2(w.root, parent, unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS, // Linux 5.6
	})
	if err != nil {
		return -1, "", err
	}
	w.parent, w.parentFD = parent, fd
	return fd, name, nil
}

// make makes e, unless it is a hard link; a directory without its metadata.
func (w *writer) make(e *tree.Entry) error {
	if e.Path == "" || e.Type == tree.Hardlink {
		return nil
	}
	if e.UID == math.MaxUint32 || e.GID == math.MaxUint32 {
		return errs.Newf(errs.Invalid, "", "", "owner 4294967295, which chown takes for \"as it is\"")
	}
	dir, name, err := w.in(e.Path)
	if err != nil {
		return err
	}
	switch e.Type {
	case tree.Dir:
		return unix.Mkdirat(dir, name, 0o700)
	case tree.Regular:
		err = w.file(dir, name, e)
	case tree.Symlink:
		err = unix.Symlinkat(e.Link, dir, name)
	case tree.Char, tree.Block, tree.Fifo, tree.Socket:
		if isWhiteout(e) {
			w.whiteouts[tree.Parent(e.Path)] = true
			err = w.file(dir, name, &tree.Entry{})
			break
		}
		err = unix.Mknodat(dir, name, e.Type.Mode()|0o600, int(unix.Mkdev(e.Major, e.Minor)))
		if w.opt.UserXattr && err == unix.EPERM { // containers could not open the device either
			w.dropped++
			return nil
		}
	default:
		return errs.Newf(errs.Invalid, "", "", "of a type that a tree cannot have")
	}
	if err != nil {
		return err
	}
	return w.metadata(dir, name, e)
}

// isWhiteout reports whether overlayfs would take e for one.
func isWhiteout(e *tree.Entry) bool { return e.Type == tree.Char && e.Major == 0 && e.Minor == 0 }

// file makes a regular file with its content.
func (w *writer) file(dir int, name string, e *tree.Entry) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if e.Object == "" {
		_, err := f.Write(e.Inline)
		return err
	}
	src, err := w.open(e.Object)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := disk.Copy(f, src); err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || info.Size() != e.Size {
		return errs.New(errs.Corrupt, "copy object", string(e.Object), err).
			WithHint("its size is not what the tree says: remove the image and pull it again")
	}
	return nil
}

// link makes hard links, when all that they can lead to is there.
func (w *writer) link(e *tree.Entry) error {
	if e.Type != tree.Hardlink {
		return nil
	}
	// Both directories are needed at once; in keeps one.
	target, targetName, err := w.in(e.Link)
	if err != nil {
		return err
	}
	if target, err = unix.FcntlInt(uintptr(target), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(target)
	dir, name, err := w.in(e.Path)
	if err != nil {
		return err
	}
	return unix.Linkat(target, targetName, dir, name, 0)
}

// finish gives directories their metadata.
func (w *writer) finish(e *tree.Entry) error {
	if e.Type != tree.Dir {
		return nil
	}
	if e.Path == "" {
		return w.metadata(w.root, ".", e)
	}
	dir, name, err := w.in(e.Path)
	if err != nil {
		return err
	}
	return w.metadata(dir, name, e)
}

// metadata sets what e says of the file, in an order in which nothing undoes what was set:
// chown takes set-id bits and capabilities away, and all of it changes the times.
func (w *writer) metadata(dir int, name string, e *tree.Entry) error {
	err := unix.Fchownat(dir, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !(w.opt.Alone && err == unix.EINVAL) { // an id that is not mapped
		return err
	}
	if e.Type != tree.Symlink {
		if err := unix.Fchmodat(dir, name, uint32(e.Mode), 0); err != nil {
			return err
		}
	}
	if err := w.xattrs(dir, name, e); err != nil {
		return err
	}
	ts := unix.Timespec{Sec: e.MTime, Nsec: int64(e.NSec)}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
