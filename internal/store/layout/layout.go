// Package layout reads and writes an OCI image layout (image-spec, image-layout.md): blobs
// under their digests, and index.json, which names them.
//
// A blob is written once, durable before it has its name, and compared with its digest
// whenever it is read. index.json is replaced as a whole, durably; readers take no lock, the
// writer has one that this package knows nothing of. Of an image, manifest and configuration
// are here; its layers are wherever the store keeps them.
package layout

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Layout is the directory of an image layout.
type Layout string

// Algorithms are the directories in blobs/.
func Algorithms() []string { return []string{"sha256", "sha512"} }

// BlobMax is the size in bytes beyond which a blob cannot be a manifest, an index or a
// configuration. Registries refuse manifests over 4 MiB; configurations are smaller still.
const BlobMax = 32 << 20

// Create makes an empty layout, or completes one.
func (l Layout) Create() error {
	for _, dir := range []string{"blobs", "blobs/sha256", "blobs/sha512"} {
		if err := os.Mkdir(string(l)+"/"+dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if _, err := os.Lstat(l.index()); err != nil {
		if err := l.WriteImages(nil); err != nil {
			return err
		}
	}
	return disk.WriteFile(string(l)+"/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644, disk.Durable)
}

// BlobPath is where d is kept, which must be valid.
func (l Layout) BlobPath(d oci.Digest) string {
	return string(l) + "/blobs/" + d.Algorithm() + "/" + d.Hex()
}

// Blob returns a blob's bytes, after comparing them with their digest.
func (l Layout) Blob(d oci.Digest) ([]byte, error) {
	const op = "read blob"
	if !d.Valid() {
		return nil, errs.Newf(errs.Invalid, op, string(d), "not a digest")
	}
	b, err := disk.ReadAtMost(l.BlobPath(d), BlobMax+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, op, string(d), nil)
	}
	if err != nil {
		return nil, errs.Wrap(op, string(d), err)
	}
	if !isContent(b, d) {
		return nil, errs.Newf(errs.Corrupt, op, string(d), "the bytes on disk do not have this digest").
			WithHint("remove the image and pull it again; if this comes back, check the disk")
	}
	return b, nil
}

// HasBlob reports whether a blob is here.
func (l Layout) HasBlob(d oci.Digest) bool {
	if !d.Valid() {
		return false
	}
	_, err := os.Lstat(l.BlobPath(d))
	return err == nil
}

// CheckBlob refuses what PutBlob must not be given.
func CheckBlob(d oci.Digest, b []byte) error {
	const op = "store blob"
	switch {
	case !d.Valid():
		return errs.Newf(errs.Invalid, op, string(d), "not a digest")
	case len(b) > BlobMax:
		return errs.Newf(errs.Invalid, op, string(d), "larger than 32 MiB: not a manifest, index or configuration")
	case !isContent(b, d):
		return errs.Newf(errs.Corrupt, op, string(d), "the bytes do not have this digest")
	}
	return nil
}

// PutBlob stores b, which CheckBlob accepts. Until it is whole it is in the directory temp,
// on the same file system.
func (l Layout) PutBlob(temp string, d oci.Digest, b []byte) error {
	t, err := disk.CreateTemp(temp, 0o444)
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
	if err := t.Publish(l.BlobPath(d)); !errs.Is(err, errs.Exists) {
		return err
	}
	return nil // another writer's is as good
}

// isContent reports whether b is what d names.
func isContent(b []byte, d oci.Digest) bool {
	h := d.NewHash()
	h.Write(b)
	return d.Matches(h)
}
