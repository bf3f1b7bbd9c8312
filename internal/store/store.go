// Package store keeps images: blobs, file contents, layer indexes and trees, each once.
//
// Content comes in through a Lease. Blobs (manifests, indexes, configurations) and objects
// (the content of files) are named by digest and never change. When all objects of a layer
// are durable, the layer index that names them is recorded; layers are merged into a tree,
// recorded under the key of what it was made from; and a reference in index.json makes it
// an image that people can name. A Hold says that a container depends on an image. What no
// reference, lease or hold leads to any more, Collect removes.
//
//	store/
//	    format        "corten store 1"
//	    oci-layout    this is an OCI image layout
//	    index.json    references, and images that lost theirs
//	    blobs/        sha256/HEX, sha512/HEX
//	    objects/      first two digits / the other 62
//	    layers/       HEX of the diff id
//	    trees/        ID/key and ID/tree.erofs or ID/root
//	    leases/       NAME.live, locked by its owner; ID.hold, a claim
//	    tmp/          NAME: what the lease of that name is making
//	    boot          the boot since which every object here is whole
//	    reserve       room that makes removing work on a full disk
//	    lock          shared to rely on things, exclusive to remove and to name them
//
// Three rules keep this true among processes that may be killed at any instant:
//
// Rely, then look. Who depends on a thing says so (in its lease, a hold, a record) and then
// looks whether it is there, both under the shared lock. Who removes decides and removes
// under the exclusive lock. So nothing vanishes after it was seen by someone entitled to it.
// No lock is held across a network call, nor for longer than some milliseconds.
//
// Name last. A thing gets its name by one system call, when it is complete. Readers take no
// lock.
//
// Record what is durable. Objects are not synced one by one. A layer is recorded after one
// syncfs; after a power cut, objects that no record names are thrown away before anything
// new is put in (see distrust). Blobs, trees and index.json are synced on their own.
package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store/layout"
)

const (
	formatText  = "corten store 1\n"
	reserveSize = 256 << 10 // bytes; several times an index.json
)

// Store is an opened store. It may be used by many goroutines and has nothing to close.
type Store struct {
	root string // Corten's state directory: holds name their owners relative to it
	dir  string
	// layout is dir, as an OCI image layout.
	layout layout.Layout
}

// Open opens the store under root, Corten's state directory, and makes it if there is none.
// For a store that is there it costs one small read.
func Open(root string) (*Store, error) {
	dir := filepath.Join(root, "store")
	s := &Store{root: root, dir: dir, layout: layout.Layout(dir)}
	b, err := disk.Read(s.path("format"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.wrap("create store", s.dir, s.create())
	}
	if err != nil {
		return nil, errs.Wrap("open store", s.dir, err)
	}
	if string(b) != formatText {
		return nil, errs.Newf(errs.Unsupported, "open store", s.dir, "its format is "+strings.TrimSpace(string(b))+", this build knows "+strings.TrimSpace(formatText)).
			WithHint("use a newer corten, or another --root")
	}
	return s, nil
}

// create makes an empty store. The file format comes last: until it is there, whoever
// opens the store creates it again, which does no harm to what exists.
func (s *Store) create() error {
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return err
	}
	// 0700: what is in a layer, set-user-id programs too, is for containers only.
	if err := mkdir(s.dir, 0o700); err != nil {
		return err
	}
	unlock, err := disk.Lock(s.path("lock"))
	if err != nil {
		return err
	}
	defer unlock()
	for _, d := range []string{"objects", "layers", "trees", "leases", "tmp"} {
		if err := mkdir(s.path(d), 0o755); err != nil {
			return err
		}
	}
	const digits = "0123456789abcdef"
	for i := range 256 {
		if err := mkdir(s.path("objects", digits[i>>4:i>>4+1]+digits[i&15:i&15+1]), 0o755); err != nil {
			return err
		}
	}
	if err := s.putReserve(); err != nil {
		return err
	}
	if err := s.layout.Create(); err != nil {
		return err
	}
	if err := disk.SyncDir(s.path("objects")); err != nil {
		return err
	}
	// No file boot is written: an interrupted creation may not vouch for what it found.
	return disk.WriteFile(s.path("format"), []byte(formatText), 0o644, disk.Durable)
}

func mkdir(path string, perm os.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return s.dir + "/" + strings.Join(elem, "/")
}

// putReserve makes the file that RemoveRef gives up when the disk is too full to write a
// shorter index.json.
func (s *Store) putReserve() error {
	f, err := os.OpenFile(s.path("reserve"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, reserveSize); err != nil && err != unix.EOPNOTSUPP {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return nil
}

// shared takes the lock that others can have too: things are added and looked at under it.
func (s *Store) shared() (unlock func() error, err error) { return disk.RLock(s.path("lock")) }

// exclusive takes the lock for one process alone: things are removed and named under it.
func (s *Store) exclusive() (unlock func() error, err error) { return disk.Lock(s.path("lock")) }

// wrap says what was being done, and where the way out of a full disk is.
func (s *Store) wrap(op, object string, err error) error {
	if err == nil {
		return nil
	}
	e := errs.New(errs.KindOf(err), op, object, err)
	if e.Kind == errs.NoSpace && errs.HintOf(err) == "" {
		e.Hint = "make room on the file system of " + s.dir + ": remove images with corten rmi, or containers with corten rm"
	}
	return e
}

// checkDigest refuses what must not become part of a path.
func checkDigest(op string, d oci.Digest) error {
	if d.Valid() {
		return nil
	}
	return errs.Newf(errs.Invalid, op, string(d), "not a digest")
}

// exists reports whether path is there.
func exists(path string) (bool, error) {
	switch err := unix.Access(path, unix.F_OK); err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	default:
		return false, &fs.PathError{Op: "look for", Path: path, Err: err}
	}
}

// list returns the names in a directory of the store, in no order.
func (s *Store) list(dir ...string) ([]string, error) {
	f, err := os.Open(s.path(dir...))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// remove removes a file; that it is gone already is as good.
func remove(path string) error {
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}
