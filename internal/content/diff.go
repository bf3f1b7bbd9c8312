package content

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/tree"
)

// Kind is what happened to a file since the container was made, in Docker's letters.
type Kind string

// Kinds of changes.
const (
	Added   Kind = "A"
	Changed Kind = "C" // content or metadata; also a directory in which something changed
	Deleted Kind = "D"
)

// Change is one file that is not as in the image.
type Change struct {
	Kind Kind   `json:"Kind"`
	Path string `json:"Path"`
}

// Diff finds what the container changed, in the order of a walk. upper is its writable layer;
// mounts are places that the start of a container makes where the image has none: empty ones
// are no changes.
func Diff(ctx context.Context, parts plan.Root, upper string, mounts []string) ([]Change, error) {
	merged, err := (*os.File)(nil), error(nil)
	if len(parts.Unshifted) > 0 {
		// On the host's root, where the layer lies too: overlayfs refuses to have one below the
		// other. There such a layer can be read as it is, since nothing in it leads elsewhere
		// (redirect_dir and metacopy are off).
		merged, err = os.Open(upper)
	} else {
		merged, err = launch.OpenRoot(parts, launch.RootRead, nil)
	}
	if err != nil {
		return nil, err
	}
	defer merged.Close()
	return diff(ctx, merged, parts, upper, mounts)
}

func diff(ctx context.Context, merged *os.File, parts plan.Root, upper string, mounts []string) ([]Change, error) {
	base, err := launch.OpenRoot(parts, launch.RootBase, nil)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	u, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("open", upper, err)
	}
	defer unix.Close(u)
	d := &differ{ctx: ctx, mounts: mounts}
	_, err = d.dir(trio{u, int(merged.Fd()), int(base.Fd())}, "")
	return d.list, err
}

// differ compares a container's root with what it was made from. It looks only where the
// writable layer has something. What that says is the overlay's own language (whiteouts,
// opaque and redirected directories, files without their content); it is asked where to look,
// and the merged root what is there.
type differ struct {
	ctx    context.Context
	mounts []string
	list   []Change
}

// trio is a directory in the writable layer, the merged root and the base; -1 where it is
// not, or is something else.
type trio struct{ upper, merged, base int }

func (t trio) close() {
	for _, fd := range [...]int{t.upper, t.merged, t.base} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// dir finds the changes in a directory, and reports whether there are any, and whether some
// were left out as places for mounts.
func (d *differ) dir(t trio, dir string) (sum changes, err error) {
	if err := d.ctx.Err(); err != nil {
		return sum, errs.New(errs.Canceled, "", "", err)
	}
	names, err := d.names(t)
	if err != nil {
		return sum, errs.Wrap("list", shown("/"+dir), err)
	}
	for _, name := range names {
		one, err := d.name(t, path.Join(dir, name), name)
		if err != nil {
			return sum, err
		}
		sum.real = sum.real || one.real
		sum.mounts = sum.mounts || one.mounts
	}
	return sum, nil
}

// changes says what was found below a directory.
type changes struct{ real, mounts bool }

// names is what to look at in a directory: what the writable layer has, or, where it hides or
// moves what is below, everything.
func (d *differ) names(t trio) ([]string, error) {
	if t.upper >= 0 && !hides(t.upper) {
		return list(t.upper)
	}
	names, err := list(t.merged)
	if err != nil || t.base < 0 {
		return names, err
	}
	before, err := list(t.base)
	names = append(names, before...)
	slices.Sort(names)
	return slices.Compact(names), err
}

func list(fd int) ([]string, error) {
	f, err := folder(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// hides reports whether a directory of the writable layer does not simply lie over the one
// with the same name below (Documentation/filesystems/overlayfs.rst).
func hides(upper int) bool {
	var b [1]byte
	space := "trusted.overlay."
	if nest.Inside() {
		space = "user.overlay."
	}
	if n, err := unix.Getxattr(self(upper), space+"opaque", b[:]); err == nil && n == 1 && b[0] == 'y' {
		return true
	}
	_, err := unix.Getxattr(self(upper), space+"redirect", nil)
	return err == nil
}

// name compares one name of a directory.
func (d *differ) name(t trio, path, name string) (changes, error) {
	var now, was unix.Stat_t
	here, err := stat(t.merged, name, &now)
	if err != nil {
		return changes{}, errs.Wrap("look at", shown("/"+path), err)
	}
	here = here && !(now.Mode&unix.S_IFMT == unix.S_IFCHR && now.Rdev == 0) // a whiteout, where the layer is read as it is
	before, err := stat(t.base, name, &was)
	if err != nil {
		return changes{}, errs.Wrap("look at", shown("/"+path), err)
	}
	switch {
	case !here && !before:
		return changes{}, nil // made and removed
	case !here:
		return d.add(Deleted, path), nil
	}
	isDir, wasDir := now.Mode&unix.S_IFMT == unix.S_IFDIR, before && was.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir {
		if !before && now.Size == 0 && slices.Contains(d.mounts, "/"+path) {
			return changes{mounts: true}, nil
		}
		return d.add(kindOfChange(before), path), nil
	}
	at := len(d.list)
	d.add(kindOfChange(before), path)
	sub, err := d.sub(t, path, name, wasDir)
	if err != nil {
		return changes{}, err
	}
	switch {
	case !before && !sub.real && slices.Contains(d.mounts, "/"+path), // only for a mount
		wasDir && !sub.real && same(&now, &was, sub.mounts):
		d.list = d.list[:at]
		return changes{mounts: sub.mounts || !before}, nil
	}
	return changes{real: true}, nil
}

// sub compares a directory that the merged root has.
func (d *differ) sub(t trio, path, name string, wasDir bool) (changes, error) {
	s := trio{-1, -1, -1}
	defer func() { s.close() }()
	open := func(dir int) int {
		if dir < 0 {
			return -1
		}
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		return fd
	}
	s.merged = open(t.merged)
	if t.upper >= 0 && !hides(t.upper) { // else what is below comes from elsewhere too
		s.upper = open(t.upper)
	}
	if wasDir {
		s.base = open(t.base)
	}
	if s.merged < 0 {
		return changes{}, nil // removed since
	}
	return d.dir(s, path)
}

func (d *differ) add(k Kind, path string) changes {
	d.list = append(d.list, Change{k, "/" + path})
	return changes{real: true}
}

func kindOfChange(before bool) Kind {
	if before {
		return Changed
	}
	return Added
}

// same reports whether a directory has the metadata that it had; its time may be another if
// places for mounts were made in it.
func same(now, was *unix.Stat_t, mounts bool) bool {
	return now.Mode == was.Mode && now.Uid == was.Uid && now.Gid == was.Gid && (mounts || now.Mtim == was.Mtim)
}

// stat looks at a name of a directory; -1 has none.
func stat(dir int, name string, st *unix.Stat_t) (bool, error) {
	if dir < 0 {
		return false, nil
	}
	err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// Layer writes what the container changed as the tar of an image layer (image-spec,
// layer.md).
func Layer(ctx context.Context, parts plan.Root, upper string, mounts []string, w io.Writer) error {
	merged, err := launch.OpenRoot(parts, launch.RootRead, nil)
	if err != nil {
		return err
	}
	defer merged.Close()
	list, err := diff(ctx, merged, parts, upper, mounts)
	if err != nil {
		return err
	}
	t := newTarWriter(w)
	walk := newWalker(ctx, t)
	walk.acl = true
	root := place{at: int(merged.Fd()), resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for _, c := range list {
		if err := walk.change(root, c); err != nil {
			return errs.Wrap("write layer", "", err)
		}
	}
	return t.finish()
}

// change writes one entry of a layer.
func (w *walker) change(root place, c Change) error {
	if err := w.ctx.Err(); err != nil {
		return errs.New(errs.Canceled, "", "", err)
	}
	name := c.Path[1:]
	if strings.HasPrefix(path.Base(name), ".wh.") {
		return errs.Newf(errs.Unsupported, "", shown(c.Path), "in a layer such a name means that something was removed").WithHint("remove the file, or give it another name")
	}
	if c.Kind == Deleted {
		dir, base := path.Split(name)
		return w.to.put(&tree.Entry{Path: dir + ".wh." + base, Type: tree.Regular}, zeros{})
	}
	fd, err := root.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err == unix.ENOENT {
		return nil // removed since: the container runs
	}
	if err != nil {
		return errs.Wrap("open", shown(c.Path), err)
	}
	defer unix.Close(fd)
	e, st, err := w.entry(fd, name)
	if err != nil {
		return errs.Wrap("read", shown(c.Path), err)
	}
	if e.Type == tree.Dir {
		return w.to.put(e, nil)
	}
	return w.leaf(fd, e, st)
}

// Export writes the container's root as a tar, without what is mounted in it.
func Export(ctx context.Context, parts plan.Root, w io.Writer) error {
	root, err := launch.OpenRoot(parts, launch.RootRead, nil)
	if err != nil {
		return err
	}
	defer root.Close()
	t := newTarWriter(w)
	walk := newWalker(ctx, t)
	walk.acl = true
	d, err := folder(int(root.Fd()))
	if err != nil {
		return errs.Wrap("open root", "", err)
	}
	defer d.Close()
	if err := walk.each(d, ""); err != nil {
		return err
	}
	return t.finish()
}
