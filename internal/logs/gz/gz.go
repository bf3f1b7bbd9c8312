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
// can be done again.
func Folder(folder string) error {
	list, err := logs.Files(folder)
	if err != nil {
		return errs.Wrap("compress log", folder, err)
	}
	var all []error
	for i, f := range list {
		if f.Plain && i < len(list)-1 {
			all = append(all, Compress(filepath.Join(folder, logs.Name(f.N))))
		}
	}
	return errors.Join(all...)
}

// Compress replaces N.log by N.log.gz. The compressed file is durable before it has its
// name, and its name before the other goes, so a power cut leaves at least one whole. It is
// no error if rotation has removed the file.
func Compress(path string) error {
	err := compress(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errs.Wrap("compress", path, err)
}

func compress(path string) error {
	name := path + ".gz"
	if _, err := os.Lstat(name); err == nil {
		return os.Remove(path) // killed between the two names
	}
	in, err := os.Open(path)
	if err != nil {
		return err
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
	return os.Remove(path)
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
