package store

import (
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store/layout"
)

// Found is an image that was looked for by identifier.
type Found struct {
	Image               // the entry that leads to it, or one of them
	Manifest oci.Digest // the image's own, if Image is an index
	Config   oci.Digest // the identifier that people see
}

// Find returns the image whose identifier begins with prefix: the digest of its
// configuration, its manifest, or the index that it is in, with or without "sha256:". If
// it could be several images the error's kind is Invalid.
func (s *Store) Find(prefix string) (Found, error) {
	list, err := s.Images()
	if err != nil {
		return Found{}, err
	}
	begins := func(d oci.Digest) bool {
		return prefix != "" && (strings.HasPrefix(d.Hex(), prefix) || strings.HasPrefix(string(d), prefix) && len(prefix) > len(d.Algorithm())+1)
	}
	var found []Found
	for _, im := range list {
		c, err := s.layout.Content(im.Descriptor.Digest)
		if err != nil {
			return Found{}, errs.Wrap("find image", prefix, err)
		}
		for _, p := range c.Images {
			if begins(p.Config) || begins(p.Manifest) || begins(im.Descriptor.Digest) {
				found = append(found, Found{im, p.Manifest, p.Config})
			}
		}
	}
	if len(found) == 0 {
		return Found{}, layout.NotFound(prefix)
	}
	for _, f := range found[1:] {
		if f.Manifest != found[0].Manifest {
			return Found{}, errs.Newf(errs.Invalid, "find image", prefix, "several images begin so, among them "+
				found[0].Config.Short()+" and "+f.Config.Short()).WithHint("give more digits")
		}
	}
	return found[0], nil
}

// SetRef makes ref, a complete reference, the name of the image d, which must be here with
// its layers. An image that had the name stays without one. With ref "" the image is kept
// without a name. When SetRef returns, image and name are durable.
func (s *Store) SetRef(ref string, d oci.Descriptor) error {
	const op = "name image"
	if err := checkDigest(op, d.Digest); err != nil {
		return err
	}
	if ref != printable(ref) {
		return errs.Newf(errs.Invalid, op, printable(ref), "the name has control characters")
	}
	// What the image is made of is durable but for the names of its files. Those come first,
	// so that a power cut cannot leave a reference to what it took away.
	for _, dir := range []string{"blobs/sha256", "blobs/sha512", "layers", "trees"} {
		if err := disk.SyncDir(s.path(dir)); err != nil {
			return s.wrap(op, ref, err)
		}
	}
	unlock, err := s.exclusive()
	if err != nil {
		return s.wrap(op, ref, err)
	}
	defer unlock()
	if err := s.complete(d.Digest); err != nil {
		return s.wrap(op, ref, err)
	}
	list, err := s.Images()
	if err != nil {
		return err
	}
	return s.wrap(op, ref, s.layout.WriteImages(layout.Named(list, ref, d)))
}

// RemoveRef takes the name ref away. If it is the image's last name, the image goes too,
// and the next Collect frees what it alone used; but not while a container holds it: then
// the error's kind is Busy, or, with force, the image stays without a name.
func (s *Store) RemoveRef(ref string, force bool) error {
	if ref == "" {
		return layout.NotFound(ref)
	}
	return s.removeImages("remove image", ref, force, func(im Image) bool { return im.Ref == ref })
}

// Remove takes the image with that manifest or index away, with all its names; as RemoveRef
// otherwise. The image without a name that a container holds cannot be removed by force.
func (s *Store) Remove(d oci.Digest, force bool) error {
	return s.removeImages("remove image", string(d), force, func(im Image) bool { return im.Descriptor.Digest == d })
}

func (s *Store) removeImages(op, object string, force bool, match func(Image) bool) error {
	unlock, err := s.exclusive()
	if err != nil {
		return s.wrap(op, object, err)
	}
	defer unlock()
	list, err := s.Images()
	if err != nil {
		return err
	}
	var gone, rest []Image
	for _, im := range list {
		if match(im) {
			gone = append(gone, im)
		} else {
			rest = append(rest, im)
		}
	}
	if len(gone) == 0 {
		return layout.NotFound(object)
	}
	last := gone[0]
	if !layout.Contains(rest, last.Descriptor.Digest) {
		holder, err := s.holderOf(last.Descriptor.Digest)
		if err != nil {
			return s.wrap(op, object, err)
		}
		if holder != "" && (!force || last.Ref == "") {
			return errs.Newf(errs.Busy, op, object, "in use by "+holder).WithHint("remove that first, or use --force to take away only the name")
		}
		if holder != "" {
			last.Ref = ""
			rest = append(rest, last)
		}
	}
	err = s.layout.WriteImages(rest)
	if errs.Is(err, errs.NoSpace) {
		// The disk is full and this is how to make room. Collect restores the reserve.
		if err := remove(s.path("reserve")); err != nil {
			return s.wrap(op, object, err)
		}
		err = s.layout.WriteImages(rest)
	}
	return s.wrap(op, object, err)
}
