package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Image is an entry of index.json: a manifest, or an index of manifests, with a name. A
// manifest with two names is two entries. One whose name went to another manifest stays,
// without a name, until it is removed.
type Image struct {
	Ref        string // complete: "docker.io/library/debian:12"; "" for none
	Descriptor oci.Descriptor
}

// Images lists the images, ordered by name.
func (s *Store) Images() ([]Image, error) {
	b, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return parseIndex(b, s.path("index.json"))
}

func (s *Store) readIndex() ([]byte, error) {
	path := s.path("index.json")
	b, err := os.ReadFile(path)
	return b, errs.Wrap("read index of images", path, err)
}

func parseIndex(b []byte, path string) ([]Image, error) {
	const op = "read index of images"
	var x oci.Index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, errs.New(errs.Corrupt, op, path, err)
	}
	list := make([]Image, 0, len(x.Manifests))
	for _, d := range x.Manifests {
		if err := checkDigest(op, d.Digest); err != nil {
			return nil, err
		}
		list = append(list, imageOf(d))
	}
	return list, nil
}

func imageOf(d oci.Descriptor) Image {
	im := Image{Ref: d.Annotations[oci.AnnotationRefName], Descriptor: d}
	im.Descriptor.Annotations = maps.Clone(d.Annotations)
	delete(im.Descriptor.Annotations, oci.AnnotationRefName)
	if len(im.Descriptor.Annotations) == 0 {
		im.Descriptor.Annotations = nil
	}
	return im
}

// Lookup returns what the complete reference ref names.
func (s *Store) Lookup(ref string) (oci.Descriptor, error) {
	b, err := s.readIndex()
	if err != nil {
		return oci.Descriptor{}, err
	}
	if im, ok := findLine(b, ref); ok {
		return im.Descriptor, nil
	}
	list, err := parseIndex(b, s.path("index.json"))
	if err != nil {
		return oci.Descriptor{}, err
	}
	for _, im := range list {
		if im.Ref == ref && ref != "" {
			return im.Descriptor, nil
		}
	}
	return oci.Descriptor{}, noImage(ref)
}

// findLine finds ref in an index.json as writeIndex writes it, a line for each image, and
// decodes only that line: every start of a container passes here, and decoding all takes
// 8 µs an image. What it does not find, or not so written, may be there all the same.
func findLine(index []byte, ref string) (Image, bool) {
	at := bytes.Index(index, []byte(`"`+oci.AnnotationRefName+`":"`+ref+`"`))
	if at < 0 {
		return Image{}, false
	}
	line := index[bytes.LastIndexByte(index[:at], '\n')+1:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	var d oci.Descriptor
	if json.Unmarshal(bytes.TrimSuffix(line, []byte(",")), &d) != nil {
		return Image{}, false
	}
	im := imageOf(d)
	return im, im.Ref == ref && ref != "" && d.Digest.Valid()
}

func noImage(name string) error {
	return errs.New(errs.NotFound, "find image", name, nil).WithHint("see corten images for what is here, or corten pull it")
}

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
		c, err := s.contentOf(im.Descriptor.Digest)
		if err != nil {
			return Found{}, errs.Wrap("find image", prefix, err)
		}
		for _, p := range c.images {
			if begins(p.config) || begins(p.manifest) || begins(im.Descriptor.Digest) {
				found = append(found, Found{im, p.manifest, p.config})
			}
		}
	}
	if len(found) == 0 {
		return Found{}, noImage(prefix)
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
	return s.wrap(op, ref, s.writeIndex(named(list, ref, d)))
}

// named is list after ref was given to d.
func named(list []Image, ref string, d oci.Descriptor) []Image {
	im := imageOf(d)
	im.Ref = ref
	var names, nameless []Image
	for _, im := range append(list, im) {
		if im.Ref == ref && im.Descriptor.Digest != d.Digest {
			im.Ref = "" // its name is another's now
		}
		switch {
		case im.Ref == "":
			nameless = append(nameless, im)
		case im.Ref != ref:
			names = append(names, im)
		}
	}
	if ref != "" {
		names = append(names, im)
	}
	for _, im := range nameless { // each once, and only if it has no name
		if !slices.ContainsFunc(names, func(n Image) bool { return n.Descriptor.Digest == im.Descriptor.Digest }) {
			names = append(names, im)
		}
	}
	return names
}

// RemoveRef takes the name ref away. If it is the image's last name, the image goes too,
// and the next Collect frees what it alone used; but not while a container holds it: then
// the error's kind is Busy, or, with force, the image stays without a name.
func (s *Store) RemoveRef(ref string, force bool) error {
	if ref == "" {
		return noImage(ref)
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
		return noImage(object)
	}
	last := gone[0]
	if !slices.ContainsFunc(rest, func(im Image) bool { return im.Descriptor.Digest == last.Descriptor.Digest }) {
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
	err = s.writeIndex(rest)
	if errs.Is(err, errs.NoSpace) {
		// The disk is full and this is how to make room. Collect restores the reserve.
		if err := remove(s.path("reserve")); err != nil {
			return s.wrap(op, object, err)
		}
		err = s.writeIndex(rest)
	}
	return s.wrap(op, object, err)
}

// writeIndex replaces index.json, durably. The exclusive lock is held: whoever changes it
// has read it under the same lock. Readers see the old one or the new one.
func (s *Store) writeIndex(list []Image) error {
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(strings.Compare(a.Ref, b.Ref), strings.Compare(string(a.Descriptor.Digest), string(b.Descriptor.Digest)))
	})
	var b bytes.Buffer
	b.WriteString(`{"schemaVersion":2,"mediaType":"` + oci.TypeIndex + `","manifests":[`)
	for i, im := range list {
		d := im.Descriptor
		d.Annotations = maps.Clone(d.Annotations)
		if im.Ref != "" {
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			d.Annotations[oci.AnnotationRefName] = im.Ref
		}
		line, err := json.Marshal(d)
		if err != nil {
			return errs.New(errs.Internal, "write index of images", "", err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	return disk.WriteFile(s.path("index.json"), b.Bytes(), 0o644, disk.Durable)
}
