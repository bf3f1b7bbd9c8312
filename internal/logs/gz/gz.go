// Package gz compresses the older files of a log. It is apart from package logs so that the
// keeper, which never compresses anything itself, does not link what it takes.
package gz

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/logs"
)

// Folder compresses every file of a log but the one that is being written. Whoever was
// killed while doing so has left a file that no reader knows, or both forms of a file: it
// can be done again. One process at a time does it; others wait.
func Folder(folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return errs.Wrap("compress log", folder, err)
	}
	defer dir.Close()
	if err := disk.Flock(dir, disk.Exclusive); err != nil {
		return errs.Wrap("lock log", folder, err)
	}
	list, err := logs.Files(folder)
	if err != nil {
		return errs.Wrap("compress log", folder, err)
	}
	var all []error
	for i, f := range list {
		if f.Plain && i < len(list)-1 {
			path := filepath.Join(folder, logs.Name(f.N))
			all = append(all, errs.Wrap("compress", path, compress(path)))
		}
	}
	return errors.Join(all...)
}

// compress replaces N.log by N.log.gz. The compressed file is durable before it has its
// name, and its name before the other goes, so a power cut leaves at least one whole. Where
// rotation has removed the file meanwhile, nothing is left.
func compress(path string) error {
	name := path + ".gz"
	if _, err := os.Lstat(name); err == nil {
		return ignoreMissing(os.Remove(path)) // killed between the two names
	}
	in, err := os.Open(path)
	if err != nil {
		return ignoreMissing(err)
	}
	defer in.Close()
	temp := name + ".new"
	if err := write(temp, in); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ignoreMissing(os.Remove(name))
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func write(name string, in io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close(), f.Sync(), f.Close())
}
