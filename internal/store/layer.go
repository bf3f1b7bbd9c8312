package store

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// layerPath is where the index of the layer diffID is kept. It was checked; sha256 and
// sha512 differ in length.
func (s *Store) layerPath(diffID oci.Digest) string { return s.path("layers", diffID.Hex()) }

// layerOf is the inverse of layerPath's last component.
func layerOf(name string) (oci.Digest, bool) {
	algo := "sha256:"
	if len(name) == 128 {
		algo = "sha512:"
	}
	d, err := oci.ParseDigest(algo + name)
	return d, err == nil
}

// Layer returns the index of a layer.
func (s *Store) Layer(diffID oci.Digest) (*tree.Index, error) {
	const op = "read layer"
	if err := checkDigest(op, diffID); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(s.layerPath(diffID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, op, string(diffID), nil)
	}
	if err != nil {
		return nil, errs.Wrap(op, string(diffID), err)
	}
	x, err := tree.Decode(b)
	if err == nil && x.DiffID != diffID {
		err = errs.Newf(errs.Corrupt, "", "", "it says that it is "+string(x.DiffID))
	}
	if err != nil {
		return nil, errs.New(errs.Corrupt, op, string(diffID), err).WithHint("remove the image and pull it again")
	}
	return x, nil
}

// HasLayer reports whether a layer is recorded. Only a lease makes sure that it stays.
func (s *Store) HasLayer(diffID oci.Digest) bool {
	if !diffID.Valid() {
		return false
	}
	ok, err := exists(s.layerPath(diffID))
	return ok && err == nil
}

// UseLayer relies on a layer, with its objects, and reports whether it is recorded.
func (l *Lease) UseLayer(diffID oci.Digest) (bool, error) {
	if err := checkDigest("use layer", diffID); err != nil {
		return false, err
	}
	return l.rely(lineLayer, string(diffID), l.s.layerPath(diffID))
}

// PutLayers records layers whose objects were put in or used through this lease. Before
// anything is recorded all of it is made durable, with one syncfs however many layers there
// are. If power fails after PutLayers, the record may be lost, but there is none whose
// objects are.
func (l *Lease) PutLayers(ctx context.Context, layers ...*tree.Index) error {
	const op = "record layer"
	temps := make([]string, len(layers))
	for i, x := range layers {
		var err error
		if temps[i], err = l.writeLayer(x); err != nil {
			return l.s.wrap(op, string(x.DiffID), err)
		}
	}
	if err := ctx.Err(); err != nil {
		return errs.New(errs.Canceled, op, "", err)
	}
	if err := l.sync(); err != nil {
		return l.s.wrap(op, "", err)
	}
	for i, x := range layers {
		if err := l.record(temps[i], x); err != nil {
			return l.s.wrap(op, string(x.DiffID), err)
		}
	}
	return nil
}

// writeLayer writes x where nobody looks for it and returns the path.
func (l *Lease) writeLayer(x *tree.Index) (string, error) {
	if err := checkDigest("write", x.DiffID); err != nil {
		return "", err
	}
	if err := x.Check(); err != nil {
		return "", err
	}
	temp := l.temp("layer")
	return temp, os.WriteFile(temp, tree.Encode(x), 0o444)
}

// sync makes durable all that was put in, by this lease or found from another one.
func (l *Lease) sync() error {
	err := disk.SyncFS(l.file)
	if err != nil {
		// Some object, nobody knows which, is not on the disk as it was written, and the kernel
		// may forget this: the next lease must find out what to trust, as after a power cut.
		remove(l.s.path("boot"))
	}
	return err
}

// record gives the written index of x its name. The objects are looked for once more, under
// the lock: a record that names a missing one would deceive all who come later.
func (l *Lease) record(temp string, x *tree.Index) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := l.shared()
	if err != nil {
		return err
	}
	defer unlock()
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Object == "" {
			continue
		}
		ok, err := exists(l.s.objectPath(e.Object))
		if err != nil {
			return err
		}
		if !ok {
			return errs.New(errs.NotFound, "find object", string(e.Object), nil).WithHint("try again: the content will be fetched again")
		}
	}
	if err := l.append(lineLayer + string(x.DiffID) + "\n"); err != nil {
		return err
	}
	return os.Rename(temp, l.s.layerPath(x.DiffID)) // now other processes see it
}
