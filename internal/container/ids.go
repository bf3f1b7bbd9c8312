package container

import (
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// User namespaces get ranges of 65,536 ids from 1,073,741,824 up: above what useradd gives
// to ordinary users and their sub-ids (600,100,000), below what signed programs misread.
const (
	rangeSize  = 1 << 16
	firstRange = 1 << 30
	ranges     = 12288 // up to 1,879,048,191, where systemd's container range ends too
)

// ClaimIDs finds a range of ids that no running container has. The claim is the file
// run/ids/N with the container's id in it; it ends with ReleaseIDs or with Sweep. A claim that a
// start has left which was killed is the next one's.
func ClaimIDs(dirs Dirs, id spec.ContainerID) (host uint32, err error) {
	start := firstChoice(id)
	folder := filepath.Join(dirs.Run, "ids")
	for i := range uint32(ranges) {
		n := (start + i) % ranges
		path := filepath.Join(folder, strconv.FormatUint(uint64(n), 10))
		// A link is made whole or not at all, so a claim always says whose it is.
		err := linkTo(id, path)
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return 0, errs.Wrap("claim ids in", folder, err)
			}
			err = linkTo(id, path)
		}
		if err == nil || own(path, id, err) {
			return firstRange + n*rangeSize, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return 0, errs.Wrap("claim ids in", folder, err)
		}
	}
	return 0, errs.Newf(errs.NoSpace, "claim ids for container", id.Short(), "all 12,288 ranges of user ids are in use").
		WithHint("stop containers, or start this one with --userns host")
}

func own(path string, id spec.ContainerID, err error) bool {
	if !errors.Is(err, fs.ErrExist) {
		return false
	}
	holder, err := readLink(path)
	return err == nil && holder == id
}

// ReleaseIDs frees the range that begins at host, if it is this container's.
func ReleaseIDs(dirs Dirs, id spec.ContainerID, host uint32) error {
	path := filepath.Join(dirs.Run, "ids", strconv.FormatUint(uint64((host-firstRange)/rangeSize), 10))
	_, err := release(path, id)
	return err
}

// release removes a claim if it is this container's, and reports whether it was.
func release(path string, id spec.ContainerID) (bool, error) {
	holder, err := readLink(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && holder != id {
		return false, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err == nil, errs.Wrap("release ids of container", id.Short(), err)
}

// ReleaseAllIDs frees the range of a container that has ended.
func ReleaseAllIDs(dirs Dirs, id spec.ContainerID) error { return releaseAll(dirs, id) }

// releaseAll frees a range whose number is not known. Nearly always it is the first that the
// container would have tried.
func releaseAll(dirs Dirs, id spec.ContainerID) error {
	folder := filepath.Join(dirs.Run, "ids")
	path := filepath.Join(folder, strconv.FormatUint(uint64(firstChoice(id)), 10))
	if found, err := release(path, id); found || err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		_, rerr := release(filepath.Join(folder, e.Name()), id)
		err = errors.Join(err, rerr)
	}
	return err
}

// Map is the map of a range for both users and groups.
func Map(host uint32) []spec.IDMap {
	return []spec.IDMap{{Container: 0, Host: host, Size: rangeSize}}
}

// LikelyIDs is the range that ClaimIDs tries first.
func LikelyIDs(id spec.ContainerID) uint32 {
	return firstRange + firstChoice(id)*rangeSize
}

// KeepMap maps one id to itself and the others of 0 to 65,535 to the range at host.
func KeepMap(host, id uint32) []spec.IDMap {
	var m []spec.IDMap
	if id >= rangeSize {
		return append(Map(host), spec.IDMap{Container: id, Host: id, Size: 1})
	}
	if id > 0 {
		m = append(m, spec.IDMap{Container: 0, Host: host, Size: id})
	}
	m = append(m, spec.IDMap{Container: id, Host: id, Size: 1})
	if id+1 < rangeSize {
		m = append(m, spec.IDMap{Container: id + 1, Host: host + id + 1, Size: rangeSize - id - 1})
	}
	return m
}

func firstChoice(id spec.ContainerID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32() % ranges
}
