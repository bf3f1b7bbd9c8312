// Package image knows the images that are here: what they are and how they go. Package
// supply brings them.
//
// An image arrives from a registry, an archive or a tar of a root file system. Its manifest
// and configuration are kept as they came; each layer becomes a layer index and objects, and
// the layers together become one tree, beside which a small file keeps what every start of a
// container asks about it (facts.go). The name comes last: an image that has one is whole.
// From then on Find answers from a few small files, List and Inspect tell people about it,
// and Remove takes names away until nothing leads to the image any more.
package image

import (
	"encoding/json"
	"runtime"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
)

// Library is the images of one store.
type Library struct {
	store *store.Store
	root  string // Corten's lasting state
	run   string // what a reboot forgets: remembers what kind of tree this kernel can mount
	kind  string // the kind of tree that is wanted all the same: "erofs", "dir", "sealed" or ""
}

// Open returns the library on Corten's state folders. The kind of tree, "sealed", "erofs" or
// "dir", is chosen by what the kernel can do unless kind names one.
func Open(root, run, kind string) (*Library, error) {
	switch kind {
	case "", store.EROFS.String(), store.Dir.String(), store.Sealed.String():
	default:
		return nil, errs.Newf(errs.Invalid, "choose kind of tree", kind, "there are erofs, dir and sealed")
	}
	s, err := store.Open(root)
	if err != nil {
		return nil, err
	}
	return &Library{store: s, root: root, run: run, kind: kind}, nil
}

// Store is the store that the images are in.
func (l *Library) Store() *store.Store { return l.store }

// Root is the folder of lasting state, on the file system of the store.
func (l *Library) Root() string { return l.root }

// Image is an image that is here, for one platform.
type Image struct {
	Ref      string         // the complete reference it was found by; "" if by identifier
	Target   oci.Descriptor // what that names: the manifest, or an index that leads to it
	Manifest oci.Digest
	ID       oci.Digest // of the configuration: what people call the image's id
	Platform oci.Platform
	Created  time.Time // zero if the image does not say
	Config   oci.Config
	Layers   []oci.Digest // diff ids, the lowest first
}

// Describe fills in what a configuration says of the image.
func (x *Image) Describe(config []byte) error {
	var e essence
	if err := json.Unmarshal(config, &e); err != nil {
		return errs.New(errs.Corrupt, "read image configuration", string(x.ID), err)
	}
	x.Platform, x.Created, x.Config, x.Layers = e.Platform, e.Created, e.Config, e.RootFS.DiffIDs
	return nil
}

// essence is the part of a configuration that a start needs. What else is there, the history
// above all, is skipped by the decoder.
type essence struct {
	oci.Platform
	Created time.Time  `json:"created"`
	Config  oci.Config `json:"config"`
	RootFS  oci.RootFS `json:"rootfs"`
}

// Host is the platform that containers run on here.
func Host() oci.Platform { return oci.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// Find returns the image that a name means: a reference, or the beginning of an
// identifier. A reference is tried first, as Docker does. A nil platform means this
// machine's, or, of an image that is for one platform only, that one.
func (l *Library) Find(name string, want *oci.Platform) (Image, error) {
	const op = "find image"
	ref, err := oci.ParseRef(name)
	if err == nil {
		var x Image
		if x.Target, x.Ref, err = l.lookup(ref); err == nil {
			err = l.fill(&x, x.Target.Digest, want)
			return x, errs.Wrap(op, name, err)
		}
	} else if !isID(name) {
		return Image{}, err
	}
	if !isID(name) || !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Invalid) {
		return Image{}, absent(name, err)
	}
	found, err := l.store.Find(name)
	if err != nil {
		return Image{}, err
	}
	x := Image{Target: found.Descriptor}
	err = l.fill(&x, found.Manifest, want)
	return x, errs.Wrap(op, name, err)
}

// absent puts what the user wrote into the error of a reference that is not here.
func absent(name string, err error) error {
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	return errs.Newf(errs.NotFound, "find image", name, "it is not here").
		WithHint("see corten images for what is here, or corten pull it")
}

// isID reports whether name can be (the beginning of) an identifier.
func isID(name string) bool {
	hexa := strings.TrimPrefix(name, "sha256:")
	if len(hexa) == 0 || len(hexa) > 64 {
		return false
	}
	for i := range len(hexa) {
		if c := hexa[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Key is the form of ref under which an image is kept. With a digest the tag decides
// nothing, so it is left out.
func Key(ref oci.Ref) string {
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return ref.String()
}

// lookup finds what ref names. A digest that nobody pulled by that name is known all the
// same if a tag of the repository leads to it.
func (l *Library) lookup(ref oci.Ref) (oci.Descriptor, string, error) {
	k := Key(ref)
	d, err := l.store.Lookup(k)
	if err == nil || ref.Digest == "" || !errs.Is(err, errs.NotFound) {
		return d, k, err
	}
	list, lerr := l.store.Images()
	if lerr != nil {
		return d, k, lerr
	}
	for _, im := range list {
		r, perr := oci.ParseRef(im.Ref)
		if perr == nil && r.Name() == ref.Name() && im.Descriptor.Digest == ref.Digest {
			return im.Descriptor, im.Ref, nil
		}
	}
	return d, k, err
}

// fill reads manifest and configuration of the image for a platform that the manifest or
// index d leads to.
func (l *Library) fill(x *Image, d oci.Digest, want *oci.Platform) error {
	raw, err := l.store.Blob(d)
	if err != nil {
		return err
	}
	var doc struct {
		Manifests []oci.Descriptor `json:"manifests"`
		Config    oci.Descriptor   `json:"config"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return errs.New(errs.Corrupt, "read manifest", string(d), err)
	}
	if doc.Manifests != nil {
		next, err := l.choose(doc.Manifests, want)
		if err != nil {
			return err
		}
		return l.fill(x, next, want)
	}
	x.Manifest, x.ID = d, doc.Config.Digest
	if raw, err = l.store.Blob(x.ID); err != nil {
		return err
	}
	if err := x.Describe(raw); err != nil || want == nil {
		return err
	}
	return CheckPlatform(x.Platform, *want)
}

// choose picks from an index the image for a platform. If that is not here it is as if
// the image were not: it can be pulled.
func (l *Library) choose(list []oci.Descriptor, want *oci.Platform) (oci.Digest, error) {
	p := Host()
	if want != nil {
		p = *want
	}
	d, err := oci.Select(oci.Index{Manifests: list}, p)
	if err == nil && l.store.HasBlob(d.Digest) {
		return d.Digest, nil
	}
	if want == nil {
		// Somebody asked for another platform when it was pulled, and for one only.
		var here []oci.Digest
		for _, d := range list {
			if l.store.HasBlob(d.Digest) {
				here = append(here, d.Digest)
			}
		}
		if len(here) == 1 {
			return here[0], nil
		}
	}
	if err != nil {
		return "", err
	}
	return "", errs.Newf(errs.NotFound, "select platform", p.String(), "the image is here for another platform only").
		WithHint("pull it with --platform " + p.String())
}

// PlatformOf reads --platform; nil if it was not given.
func PlatformOf(s string) (*oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p := oci.ParsePlatform(s)
	if p.OS == "" || p.Architecture == "" {
		return nil, errs.Newf(errs.Invalid, "read platform", s, "want OS/ARCHITECTURE").WithHint("write one such as linux/arm64")
	}
	return &p, nil
}

// CheckPlatform refuses an image for have where want is asked for and it would not run.
func CheckPlatform(have, want oci.Platform) error {
	if _, err := oci.Select(oci.Index{Manifests: []oci.Descriptor{{Platform: &have}}}, want); err == nil {
		return nil
	}
	return errs.Newf(errs.NotFound, "select platform", want.String(), "the image is for "+have.String())
}

// Whole returns the image that an index or manifest leads to, if all of it is here.
func (l *Library) Whole(name string, target oci.Descriptor, want *oci.Platform) (Image, bool) {
	x := Image{Ref: name, Target: target}
	if p := Host(); want == nil && oci.IsIndex(target.MediaType) {
		want = &p // not any other that happens to be here
	}
	if l.fill(&x, target.Digest, want) != nil {
		return Image{}, false
	}
	for _, d := range x.Layers {
		if !l.store.HasLayer(d) {
			return Image{}, false
		}
	}
	t, ok, err := l.Tree(x)
	return x, ok && err == nil && !t.Outdated
}
