package layout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
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

const opIndex = "read index of images"

func (l Layout) index() string { return string(l) + "/index.json" }

// Images lists the images, ordered by name.
func (l Layout) Images() ([]Image, error) {
	b, err := disk.Read(l.index())
	if err != nil {
		return nil, errs.Wrap(opIndex, l.index(), err)
	}
	return l.parse(b)
}

func (l Layout) parse(b []byte) ([]Image, error) {
	var x oci.Index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, errs.New(errs.Corrupt, opIndex, l.index(), err)
	}
	list := make([]Image, 0, len(x.Manifests))
	for _, d := range x.Manifests {
		if !d.Digest.Valid() {
			return nil, errs.Newf(errs.Corrupt, opIndex, l.index(), "not a digest: "+string(d.Digest))
		}
		list = append(list, imageOf(d))
	}
	return list, nil
}

// imageOf takes the name out of d.
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
func (l Layout) Lookup(ref string) (oci.Descriptor, error) {
	b, err := disk.Read(l.index())
	if err != nil {
		return oci.Descriptor{}, errs.Wrap(opIndex, l.index(), err)
	}
	if im, ok := findLine(b, ref); ok {
		return im.Descriptor, nil
	}
	list, err := l.parse(b)
	if err != nil {
		return oci.Descriptor{}, err
	}
	for _, im := range list {
		if im.Ref == ref && ref != "" {
			return im.Descriptor, nil
		}
	}
	return oci.Descriptor{}, NotFound(ref)
}

// NotFound says that no image has this name or identifier.
func NotFound(name string) error {
	return errs.New(errs.NotFound, "find image", name, nil).WithHint("see corten images for what is here, or corten pull it")
}

// findLine finds ref in an index.json as WriteImages writes it, a line for each image, and
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

// Named is list after ref was given to d; with ref "", after d was added without a name. An
// image whose name this was stays without one.
func Named(list []Image, ref string, d oci.Descriptor) []Image {
	im := imageOf(d)
	im.Ref = ref
	var named, nameless []Image
	for _, im := range append(list, im) {
		if im.Ref == ref && im.Descriptor.Digest != d.Digest {
			im.Ref = "" // its name is another's now
		}
		switch {
		case im.Ref == "":
			nameless = append(nameless, im)
		case im.Ref != ref:
			named = append(named, im)
		}
	}
	if ref != "" {
		named = append(named, im)
	}
	for _, im := range nameless { // each once, and only if it has no name
		if !Contains(named, im.Descriptor.Digest) {
			named = append(named, im)
		}
	}
	return named
}

// Contains reports whether an image of list is d.
func Contains(list []Image, d oci.Digest) bool {
	return slices.ContainsFunc(list, func(im Image) bool { return im.Descriptor.Digest == d })
}

// WriteImages replaces index.json, durably. Whoever changes it has read it under a lock that
// he still holds. Readers see the old one or the new one.
func (l Layout) WriteImages(list []Image) error {
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
			return errs.New(errs.Internal, "write index of images", l.index(), err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	return disk.WriteFile(l.index(), b.Bytes(), 0o644, disk.Durable)
}
