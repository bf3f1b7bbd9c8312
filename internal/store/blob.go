package store

import (
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store/layout"
)

// Image is an entry of index.json: a manifest, or an index of manifests, with a name. A
// manifest with two names is two entries. One whose name went to another manifest stays,
// without a name, until it is removed.
type Image = layout.Image

// Images lists the images, ordered by name.
func (s *Store) Images() ([]Image, error) { return s.layout.Images() }

// Lookup returns what the complete reference ref names.
func (s *Store) Lookup(ref string) (oci.Descriptor, error) { return s.layout.Lookup(ref) }

// Blob returns a blob's bytes, after comparing them with their digest.
func (s *Store) Blob(d oci.Digest) ([]byte, error) { return s.layout.Blob(d) }

// HasBlob reports whether a blob is here. Only a lease makes sure that it stays.
func (s *Store) HasBlob(d oci.Digest) bool { return s.layout.HasBlob(d) }

// PutBlob stores b, whose digest must be d. When it returns the content is durable; the
// name is when a reference leads to it.
func (l *Lease) PutBlob(d oci.Digest, b []byte) error {
	if err := layout.CheckBlob(d, b); err != nil {
		return err
	}
	have, err := l.rely(lineBlob, string(d), l.s.layout.BlobPath(d))
	if err == nil && !have {
		err = l.s.layout.PutBlob(l.dir, d, b)
	}
	return l.s.wrap("store blob", string(d), err)
}

// complete checks that d is here with all that a container needs: itself, and for at least
// one image of it the configuration and every layer. The lock is held, so that it stays so.
func (s *Store) complete(d oci.Digest) error {
	c, err := s.layout.Content(d)
	if err != nil {
		return err
	}
	err = noImageIn(d)
	for _, im := range c.Images {
		if err = s.imageComplete(im); err == nil {
			return nil
		}
	}
	return err
}

func noImageIn(d oci.Digest) error {
	return errs.Newf(errs.NotFound, "find image", string(d), "the index leads to no image that is here")
}

func (s *Store) imageComplete(im layout.Parts) error {
	if im.Fault != nil {
		return im.Fault
	}
	for _, d := range im.Layers {
		if !s.HasLayer(d) {
			return errs.New(errs.NotFound, "find layer", string(d), nil)
		}
	}
	return nil
}
