package store

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// maxBlob is the size in bytes beyond which a blob cannot be a manifest, an index or a
// configuration. Registries refuse manifests over 4 MiB; configurations are smaller still.
const maxBlob = 32 << 20

// blobPath is where d is kept. d was checked.
func (s *Store) blobPath(d oci.Digest) string { return s.path("blobs", d.Algorithm(), d.Hex()) }

// Blob returns a blob's bytes, after comparing them with their digest.
func (s *Store) Blob(d oci.Digest) ([]byte, error) {
	const op = "read blob"
	if err := checkDigest(op, d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, op, string(d), nil)
	}
	if err != nil {
		return nil, errs.Wrap(op, string(d), err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBlob+1))
	if err != nil {
		return nil, errs.Wrap(op, string(d), err)
	}
	if !isContent(b, d) {
		return nil, errs.Newf(errs.Corrupt, op, string(d), "the bytes on disk do not have this digest").
			WithHint("remove the image and pull it again; if this comes back, check the disk")
	}
	return b, nil
}

// HasBlob reports whether a blob is here. Only a lease makes sure that it stays.
func (s *Store) HasBlob(d oci.Digest) bool {
	if !d.Valid() {
		return false
	}
	ok, err := exists(s.blobPath(d))
	return ok && err == nil
}

// PutBlob stores b, whose digest must be d. When it returns the content is durable; the
// name is when a reference leads to it.
func (l *Lease) PutBlob(d oci.Digest, b []byte) error {
	const op = "store blob"
	if err := checkDigest(op, d); err != nil {
		return err
	}
	if len(b) > maxBlob {
		return errs.Newf(errs.Invalid, op, string(d), "larger than 32 MiB: not a manifest, index or configuration")
	}
	if !isContent(b, d) {
		return errs.Newf(errs.Corrupt, op, string(d), "the bytes do not have this digest")
	}
	have, err := l.rely(lineBlob, string(d), l.s.blobPath(d))
	if err != nil || have {
		return l.s.wrap(op, string(d), err)
	}
	return l.s.wrap(op, string(d), l.writeBlob(d, b))
}

func (l *Lease) writeBlob(d oci.Digest, b []byte) error {
	t, err := disk.CreateTemp(l.s.path("blobs", d.Algorithm()), 0o444)
	if err != nil {
		return err
	}
	defer t.Close()
	if _, err := t.Write(b); err != nil {
		return err
	}
	// Synced before it has a name, so that a blob that is there is whole after a power cut.
	if err := t.Sync(); err != nil {
		return err
	}
	return ignoreExists(t.Publish(l.s.blobPath(d))) // another writer's is as good
}

func ignoreExists(err error) error {
	if errs.Is(err, errs.Exists) {
		return nil
	}
	return err
}

// isContent reports whether b is what d names.
func isContent(b []byte, d oci.Digest) bool {
	h := d.NewHash()
	h.Write(b)
	return d.Matches(h)
}
