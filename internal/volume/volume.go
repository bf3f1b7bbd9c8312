// Package volume keeps named directories that outlive containers: volumes/NAME/_data below
// the root folder.
//
// A volume begins with what the image has at the place where it is first mounted. Until
// that copy is done, the file volumes/NAME/new says so, and whoever copies holds its lock:
// a copy that was cut short is thrown away by the next user of the volume.
package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Volume is a volume in use by this process.
type Volume struct {
	Name string
	dir  string
	mark *os.File // the locked file "new"; nil: it has its first content
}

// Data is the directory to mount.
func (v *Volume) Data() string { return filepath.Join(v.dir, "_data") }

// New reports whether the caller has to fill it, and then to call Filled.
func (v *Volume) New() bool { return v.mark != nil }

// Dir is where the volume of that name is or would be.
func Dir(root, name string) string { return filepath.Join(root, "volumes", name) }

// Open finds a volume or makes it. If another process is filling it, Open waits.
func Open(root, name string) (*Volume, error) {
	if !valid(name) {
		return nil, errs.Newf(errs.Invalid, "name volume", name, "want letters, digits, '_', '.' and '-', the first a letter or digit").
			WithHint("to mount a directory of the host, write its path: ./" + name)
	}
	v := &Volume{Name: name, dir: Dir(root, name)}
	if err := v.open(); err != nil {
		return nil, errs.Wrap("open volume", name, err)
	}
	return v, nil
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

func (v *Volume) open() error {
	// The parent is closed to the host's users: a container may leave set-user-id files.
	if err := os.MkdirAll(filepath.Dir(v.dir), 0o700); err != nil {
		return err
	}
	if err := v.make(); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(v.dir, "new"), os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return err
	}
	if _, err := os.Stat(f.Name()); err != nil { // filled while we waited
		return f.Close()
	}
	v.mark = f
	if err := os.RemoveAll(v.Data()); err != nil { // what a killed process left half done
		return err
	}
	return v.makeData(v.dir)
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

// make prepares the volume under another name, so that it appears with its mark.
func (v *Volume) make() error {
	if _, err := os.Lstat(v.dir); err == nil {
		return fs.ErrExist
	}
	tmp, err := os.MkdirTemp(filepath.Dir(v.dir), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := v.makeData(tmp); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "new"), nil, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, v.dir, unix.RENAME_NOREPLACE)
}

// Filled says that the first content is in place.
func (v *Volume) Filled() error {
	if v.mark == nil {
		return nil
	}
	err := os.Remove(v.mark.Name())
	return errors.Join(err, v.Close())
}

// Close lets go of the volume; one that was not filled will be by its next user.
func (v *Volume) Close() error {
	if v.mark == nil {
		return nil
	}
	err := v.mark.Close()
	v.mark = nil
	return err
}

// Remove removes a volume and all that is in it.
func Remove(root, name string) error {
	return errs.Wrap("remove volume", name, os.RemoveAll(Dir(root, name)))
}
