// Package archive reads images out of files and folders: OCI image layouts, as a folder or
// in a tar file, and what docker save writes. Tar files may be compressed with gzip or zstd
// and may come from a pipe.
//
// The life of a Source: Open looks at what it is given and finds the images in it. A plain
// tar file stays where it is and is read at random; anything else is first unpacked, in one
// pass, into a temporary file that has no name any more and so vanishes with the process.
// Names found in an archive are looked up in the archive and never on the disk. A Source
// then answers like a registry does: images by descriptor, manifests and blobs by digest.
// For an archive that has no manifests of its own one is made, the same at each reading.
package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Limits on what is read into memory; the content of layers never is.
const (
	maxManifest = 4 << 20 // bytes of a manifest, index or manifest.json; as registries accept
	maxConfig   = 8 << 20 // bytes of an image configuration
)

// Image is one image, or one index of the same image for several platforms.
type Image struct {
	Desc oci.Descriptor
	Refs []oci.Ref // the names it was saved under; may be empty
	Name string    // a name in the archive that is no complete reference, such as "latest"
}

// Source is an opened archive. Its methods may be called from several goroutines.
type Source struct {
	files  content
	images []Image
	made   map[oci.Digest][]byte // manifests that are not in the archive
	names  map[oci.Digest]string // blobs that have other names than a layout gives them
}

// Open reads the archive or folder at path. What must be unpacked goes to tempDir.
func Open(ctx context.Context, path, tempDir string) (*Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errs.Wrap("open image archive", path, err)
	}
	if st.IsDir() {
		files, err := openFolder(path)
		if err != nil {
			return nil, errs.Wrap("open image layout", path, err)
		}
		return newSource(files, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap("open image archive", path, err)
	}
	if st.Mode().IsRegular() {
		if plain, err := isPlain(f); err != nil || plain {
			if err != nil {
				f.Close()
				return nil, errs.Wrap("open image archive", path, err)
			}
			files, err := indexTar(ctx, f)
			if err != nil {
				f.Close()
				return nil, errs.Wrap("open image archive", path, err)
			}
			return newSource(files, path)
		}
	}
	defer f.Close()
	return read(ctx, f, path, tempDir)
}

// Read reads an archive from a stream, such as the standard input, to its end.
func Read(ctx context.Context, r io.Reader, tempDir string) (*Source, error) {
	return read(ctx, r, "stream", tempDir)
}

func read(ctx context.Context, r io.Reader, name, tempDir string) (*Source, error) {
	files, err := spool(ctx, r, tempDir)
	if err != nil {
		return nil, errs.Wrap("read image archive", name, err)
	}
	return newSource(files, name)
}

// newSource finds the images. It owns files, also when it fails.
func newSource(files content, name string) (*Source, error) {
	s := &Source{files: files, made: map[oci.Digest][]byte{}, names: map[oci.Digest]string{}}
	if err := s.findImages(); err != nil {
		files.Close()
		return nil, errs.Wrap("read image archive", name, err)
	}
	return s, nil
}

// findImages prefers a layout, which has the manifests that were pulled or built, to the
// manifest.json that docker save writes beside it or alone.
func (s *Source) findImages() error {
	layout, err := s.findLayout()
	if err != nil || layout {
		return err
	}
	docker, err := s.findDocker()
	if err != nil || docker {
		return err
	}
	const op = "find images"
	if s.has("repositories") {
		return errs.Newf(errs.Unsupported, op, "", "the archive was saved by a Docker older than 1.10").
			WithHint("load it with Docker and save it again")
	}
	return errs.Newf(errs.Invalid, op, "", "there is neither an OCI image layout (index.json) nor a docker archive (manifest.json)").
		WithHint("a tar of a root file system is read by corten import")
}

// Images returns what the archive holds, in its order.
func (s *Source) Images() []Image { return s.images }

// Close ends the use of the archive; readers of its blobs end with it.
func (s *Source) Close() error { return s.files.Close() }

// Manifest returns the bytes of a manifest or index, checked against their digest.
func (s *Source) Manifest(desc oci.Descriptor) ([]byte, error) {
	if raw, ok := s.made[desc.Digest]; ok {
		return bytes.Clone(raw), nil
	}
	return s.ReadBlob(desc, maxManifest)
}

// ReadBlob returns a whole small blob, checked against its digest; limit is in bytes.
func (s *Source) ReadBlob(desc oci.Descriptor, limit int64) ([]byte, error) {
	const op = "read from archive"
	if desc.Size > limit {
		return nil, errs.Newf(errs.Invalid, op, string(desc.Digest), "it has "+strconv.FormatInt(desc.Size, 10)+" bytes, more than is sensible for its kind")
	}
	r, err := s.Blob(desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, errs.Wrap(op, string(desc.Digest), err)
	}
	h := desc.Digest.NewHash()
	h.Write(raw)
	if !desc.Digest.Matches(h) {
		return nil, errs.Newf(errs.Corrupt, op, string(desc.Digest), "the content has another digest").
			WithHint("the archive is damaged; save or copy it again")
	}
	return raw, nil
}

// Blob streams a blob. The stream has exactly desc.Size bytes; the digest is for the reader
// to check.
func (s *Source) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	const op = "read from archive"
	if !desc.Digest.Valid() {
		return nil, errs.Newf(errs.Invalid, op, string(desc.Digest), "the digest is not valid")
	}
	name, ok := s.names[desc.Digest]
	if !ok {
		name = blobName(desc.Digest)
	}
	r, size, err := s.files.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Newf(errs.NotFound, op, string(desc.Digest), "the archive does not hold it").
			WithHint("the archive is incomplete: it may have been saved for one platform only")
	}
	if err != nil {
		return nil, errs.Wrap(op, string(desc.Digest), err)
	}
	if size != desc.Size {
		r.Close()
		return nil, errs.Newf(errs.Corrupt, op, string(desc.Digest), "it has "+strconv.FormatInt(size, 10)+" bytes, the manifest says "+strconv.FormatInt(desc.Size, 10)).
			WithHint("the archive is damaged; save or copy it again")
	}
	return r, nil
}

// blobName is a blob's name in an OCI image layout. The digest is valid.
func blobName(d oci.Digest) string { return "blobs/" + d.Algorithm() + "/" + d.Hex() }

// has reports whether the archive has a file of that name.
func (s *Source) has(name string) bool {
	r, _, err := s.files.open(name)
	if err == nil {
		r.Close()
	}
	return err == nil
}

// readFile returns a whole file of the archive.
func (s *Source) readFile(name string, limit int64) ([]byte, error) {
	r, size, err := s.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r, name, size, limit)
}

// readAll reads a file of known size into memory, unless that is more than limit.
func readAll(r io.Reader, name string, size, limit int64) ([]byte, error) {
	const op = "read from archive"
	if size > limit {
		return nil, errs.Newf(errs.Invalid, op, printable(name), "it has "+strconv.FormatInt(size, 10)+" bytes; at most "+strconv.FormatInt(limit, 10)+" are read").
			WithHint("no real archive has so large a one")
	}
	raw, err := io.ReadAll(r)
	return raw, errs.Wrap(op, printable(name), err)
}
