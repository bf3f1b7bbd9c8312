package store

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// distrust makes sure that every object is whole before anyone relies on finding one.
//
// An object gets its name before it is durable. While the machine runs that is no matter:
// all processes see the same page cache, and who is killed leaves a nameless file. But a
// power cut can leave the name on a file that is short, or holes. So the file boot says in
// which boot all objects were known to be whole. In another boot, objects that no recorded
// layer names are removed; the others were durable when they were recorded. The same is
// done within a boot when a syncfs failed, which removes the file.
//
// The file boot itself is not synced: lost or damaged it only makes this happen again.
func (s *Store) distrust() error {
	now, err := bootID()
	if err != nil || s.trusted(now) {
		return err
	}
	unlock, err := s.exclusive()
	if err != nil {
		return err
	}
	defer unlock()
	if s.trusted(now) { // somebody else did it while we waited
		return nil
	}
	live, err := s.recordedObjects()
	if err != nil {
		return err
	}
	for i := range objectDirs {
		if err := s.removeUnrecorded(objectDir(i), live); err != nil {
			return err
		}
	}
	return disk.WriteFile(s.path("boot"), []byte(now), 0o644, disk.Volatile)
}

func (s *Store) trusted(boot string) bool {
	b, err := os.ReadFile(s.path("boot"))
	return err == nil && string(b) == boot
}

// bootID changes with every start of the kernel: random(4).
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(b), err
}

// recordedObjects is what the layers name. A record that cannot be read is removed: its
// layer will be pulled again, which a record that stays would prevent. The exclusive lock is
// held.
func (s *Store) recordedObjects() (objectSet, error) {
	names, err := s.list("layers")
	if err != nil {
		return nil, err
	}
	live := objectSet{}
	for _, n := range names {
		d, ok := layerOf(n)
		if !ok {
			continue
		}
		x, err := s.Layer(d)
		if errs.Is(err, errs.Corrupt) {
			if err := remove(s.layerPath(d)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		live.addAll(x)
	}
	return live, nil
}

func (s *Store) removeUnrecorded(dir string, live objectSet) error {
	names, err := s.list("objects", dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		if id, ok := parseObject(dir, n); !ok || live.has(id) {
			continue // nothing of ours, which Check tells, or named by a record
		}
		if err := remove(s.path("objects", dir, n)); err != nil {
			return err
		}
	}
	return nil
}
