// Package volume keeps named directories that outlive containers: volumes/NAME/_data below
// the root folder.
//
// A volume begins with what the image has at the place where it is first mounted. Until
// that copy is done, the file volumes/NAME/new says so, and whoever copies holds its lock:
// a copy that was cut short is thrown away by the next user of the volume. A volume that was
// made by itself (Create) waits for its first user in the same way.
//
// Whoever mounts a volume has a shared lock on its directory until the container is written
// down, which tells of it from then on; whoever removes one has it exclusively. What is being
// removed has another name already, of which nobody takes notice.
package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// Volume is a volume in use by this process.
type Volume struct {
	Name string
	dir  string
	mark *os.File // the locked file "new"; nil: it has its first content
	held bool     // use is
	use  int      // its directory, open and locked as long as we use it
}

// Data is the directory to mount.
func (v *Volume) Data() string { return filepath.Join(v.dir, "_data") }

// New reports whether the caller has to fill it, and then to call Filled.
func (v *Volume) New() bool { return v.mark != nil }

// Dir is where the volume of that name is or would be.
func Dir(root, name string) string { return filepath.Join(root, "volumes", name) }

// Open finds a volume or makes it. If another process is filling it, Open waits. What is
// half-made when maker dies is found under its name, which is of the maker's choice, by
// Forget.
func Open(ctx context.Context, root, name, maker string) (*Volume, error) {
	if !valid(name) {
		return nil, errs.Newf(errs.Invalid, "name volume", name, "want letters, digits, '_', '.' and '-', the first a letter or digit").
			WithHint("to mount a directory of the host, write its path: ./" + name)
	}
	v := &Volume{Name: name, dir: Dir(root, name)}
	err := v.open(ctx, half(root, maker))
	if err == nil {
		err = v.limit(root)
	}
	if err != nil {
		_ = v.Close()
		return nil, errs.Wrap("open volume", name, err)
	}
	return v, nil
}

// half is where a maker makes volumes, one at a time.
func half(root, maker string) string { return filepath.Join(root, "volumes", ".new-"+maker) }

// Forget removes what a maker who died left half-made.
func Forget(root, maker string) error {
	return errs.Wrap("remove half-made volume of", maker, os.RemoveAll(half(root, maker)))
}

func valid(name string) bool {
	for i, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || i > 0 && strings.ContainsRune("_.-", r)
		if !ok {
			return false
		}
	}
	return name != ""
}

func (v *Volume) open(ctx context.Context, tmp string) error {
	// The parent is closed to the host's users: a container may leave set-user-id files.
	if err := os.MkdirAll(filepath.Dir(v.dir), 0o700); err != nil {
		return err
	}
	for !v.held {
		if err := v.make(tmp, nil); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := v.hold(); err != nil {
			return err
		}
	}
	if err := v.lock(ctx); err != nil || v.mark == nil {
		return err
	}
	if used, err := v.begin(); used || err != nil {
		return err
	}
	if err := os.RemoveAll(v.Data()); err != nil { // what a killed process left half done
		return err
	}
	return v.makeData(v.dir)
}

// lock takes the lock of the mark, if there is one. To wait for one who may copy for minutes
// is asking again, so that the wait can be ended.
func (v *Volume) lock(ctx context.Context) error {
	for {
		f, err := os.OpenFile(filepath.Join(v.dir, "new"), os.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		err = disk.Flock(f, disk.TryExclusive)
		if err == nil && stillThere(f) {
			v.mark = f
			return nil
		}
		_ = f.Close() // filled by who had it, or removed with its volume
		if err == nil {
			continue
		}
		if !errs.Is(err, errs.Busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return errs.New(errs.Canceled, "wait until it is filled", "", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func stillThere(f *os.File) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// makeData makes the directory that containers see, which is for all of their users
// whatever our umask.
func (v *Volume) makeData(dir string) error {
	data := filepath.Join(dir, "_data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	return os.Chmod(data, 0o755)
}

// make prepares the volume under another name, so that it appears with its mark and, if it has
// any, its notes.
func (v *Volume) make(tmp string, notes *notes) error {
	if _, err := os.Lstat(v.dir); err == nil {
		return fs.ErrExist
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := v.makeData(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	mark := filepath.Join(tmp, "new")
	var err error
	if notes == nil {
		err = os.WriteFile(mark, nil, 0o600)
	} else if err = notes.write(tmp); err == nil {
		err = disk.WriteFile(mark, []byte(untouched), 0o600, disk.Durable)
	}
	if err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, v.dir, unix.RENAME_NOREPLACE)
}

// Filled says that the first content is in place. If some was copied, it is on the disk
// before the mark goes: else a power cut could leave empty files that count as filled.
func (v *Volume) Filled(copied bool) error {
	if v.mark == nil {
		return nil
	}
	if copied {
		if err := disk.SyncFS(v.mark); err != nil {
			return errors.Join(err, v.unmark())
		}
	}
	err := os.Remove(v.mark.Name())
	return errors.Join(err, v.unmark())
}

// unmark lets go of the mark. A volume that was not filled will be by its next user.
func (v *Volume) unmark() error {
	if v.mark == nil {
		return nil
	}
	err := v.mark.Close()
	v.mark = nil
	return err
}

// Close lets go of the volume. A process that does not call it uses the volume until it ends.
func (v *Volume) Close() error {
	if v.held {
		_ = unix.Close(v.use)
		v.held = false
	}
	return v.unmark()
}

// Remove removes a volume and all that is in it, whoever uses it.
func Remove(root, name string) error {
	return errs.Wrap("remove volume", name, os.RemoveAll(Dir(root, name)))
}

// RemoveAll removes volumes, all that it can. To remove what is not there is no error.
func RemoveAll(root string, names []string) error {
	var all []error
	for _, n := range names {
		all = append(all, Remove(root, n))
	}
	return errors.Join(all...)
}
