package container

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/quota"
)

// Removing the few empty directories of a container that wrote nothing takes a file system
// half a millisecond, a tenth of such a container's life. They are moved to ROOT/gone
// instead, in one step, and the next start removes them while it has to wait for other
// things. What takes space is removed at once.
const (
	goneAtMost  = 64       // containers in ROOT/gone
	lightAtMost = 32       // files and directories of a container that may wait there
	lightBytes  = 64 << 10 // and their content
)

// takeAway makes a container's directory disappear, at once: who is killed while he removes
// a large one leaves the rest in ROOT/gone, and not half of a container.
func takeAway(dirs Dirs, dir string) error {
	gone := filepath.Join(dirs.Root, "gone")
	if left := lightAtMost; light(filepath.Join(dir, "upper"), &left) && moveTo(gone, dir) == nil {
		return nil
	}
	err := os.Mkdir(gone, 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = os.Rename(dir, filepath.Join(gone, filepath.Base(dir)))
	}
	if missing(err) {
		return nil
	}
	if err == nil && beingRead(filepath.Join(gone, filepath.Base(dir))) {
		return nil // ForgetGone removes it
	}
	if err != nil { // such as a full disk, on which there is room for less and not for more
		_ = os.Remove(filepath.Join(dir, "spec.json")) // without it the rest is a leftover
		return os.RemoveAll(dir)
	}
	return os.RemoveAll(filepath.Join(gone, filepath.Base(dir)))
}

// beingRead reports whether somebody reads the log of a container that is gone, and so has
// its folder locked.
func beingRead(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "log"))
	if err != nil {
		return false
	}
	defer f.Close()
	return disk.Flock(f, disk.TryExclusive) != nil
}

// missing reports whether an error says that there is no such file, nor a folder for it.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// Hide takes away the directory and the name of a container that has ended and wrote next to
// nothing, ahead of Remove, and reports whether it has.
func (x *Container) Hide() bool {
	left := lightAtMost
	x.hidden = light(filepath.Join(x.Dir(), "upper"), &left) && moveTo(filepath.Join(x.dirs.Root, "gone"), x.Dir()) == nil &&
		dropName(x.dirs, x.Spec.Name, x.Spec.ID) == nil && (x.Spec.Root.Size == 0 || quota.Release(x.dirs.Root, owner(x.Spec.ID)) == nil)
	return x.hidden
}

// moveTo moves a directory into folder, unless that is full.
func moveTo(folder, dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return err
	}
	if st.Nlink > goneAtMost {
		return unix.ENOSPC
	}
	return os.Rename(dir, filepath.Join(folder, filepath.Base(dir)))
}

// light reports whether there is next to nothing in a directory. It gives up when *left
// entries have been seen, and reads no more. The container may still be at work there: what
// was a directory can be a link or a fifo by now.
func light(dir string, left *int) bool {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	entries, err := f.ReadDir(*left + 1)
	if err != nil && err != io.EOF {
		return false
	}
	for _, e := range entries {
		if *left--; *left < 0 {
			return false
		}
		if e.IsDir() {
			if !light(filepath.Join(dir, e.Name()), left) {
				return false
			}
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() > lightBytes/lightAtMost {
			return false
		}
	}
	return true
}
