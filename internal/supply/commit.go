package supply

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// CommitRequest describes an image that is another one with a layer on top.
type CommitRequest struct {
	Base      oci.Digest // manifest of the image below
	Tar       io.Reader  // the layer
	Config    oci.Config
	Ref       *oci.Ref // nil: the image gets no name
	Author    string
	Message   string
	CreatedBy string // what made the layer
	Now       time.Time
}

// Commit makes the image. A layer without entries is none.
func Commit(ctx context.Context, l *image.Library, req CommitRequest) (image.Image, error) {
	const op = "commit image"
	if req.Ref != nil && req.Ref.Digest != "" {
		return image.Image{}, errs.Newf(errs.Invalid, op, req.Ref.Familiar(), "a digest cannot be chosen").WithHint("name the image by a tag")
	}
	lease, err := l.Store().Lease("commit on " + req.Base.Short())
	if err != nil {
		return image.Image{}, err
	}
	defer lease.Close()
	if err := lease.Use(req.Base); err != nil {
		return image.Image{}, err
	}
	f := begin(l, lease)
	below, err := f.below(l, req.Base)
	if err != nil {
		return image.Image{}, errs.Wrap(op, "", err)
	}
	x, err := f.read(ctx, req.Tar, "")
	if err != nil {
		return image.Image{}, errs.Wrap(op, "", err)
	}
	if len(x.Entries) > 0 {
		if err := lease.PutLayers(ctx, x); err != nil {
			return image.Image{}, err
		}
	}
	req.describe(f, below, x)
	im, err := f.settle(ctx)
	if err != nil {
		return image.Image{}, err
	}
	if req.Ref != nil {
		im.Ref = image.Key(*req.Ref)
	}
	return im, l.Store().SetRef(im.Ref, im.Target)
}

// below reads the documents of the image below.
func (f *fetch) below(l *image.Library, base oci.Digest) (oci.Image, error) {
	var below oci.Image
	raw, err := l.Store().Blob(base)
	if err == nil {
		err = json.Unmarshal(raw, &f.manifest)
	}
	if err == nil {
		raw, err = l.Store().Blob(f.manifest.Config.Digest)
	}
	if err == nil {
		err = json.Unmarshal(raw, &below)
	}
	if err == nil && len(below.RootFS.DiffIDs) != len(f.manifest.Layers) {
		err = errs.Newf(errs.Corrupt, "read image", string(base), "manifest and configuration list different layers")
	}
	return below, err
}

// describe makes the documents of the image.
func (req CommitRequest) describe(f *fetch, below oci.Image, x *tree.Index) {
	now := req.Now.UTC()
	empty := len(x.Entries) == 0
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest}
	for _, d := range f.manifest.Layers {
		m.Layers = append(m.Layers, asOCI(d))
	}
	im := oci.Image{Created: &now, Author: req.Author, Platform: below.Platform, Config: req.Config, RootFS: below.RootFS, History: below.History}
	im.History = append(im.History, oci.History{Created: &now, CreatedBy: req.CreatedBy, Author: req.Author, Comment: req.Message, EmptyLayer: empty})
	if !empty {
		im.RootFS.DiffIDs = append(im.RootFS.DiffIDs, x.DiffID)
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: oci.TypeLayer, Digest: x.DiffID, Size: x.Size}) // never packed
	}
	f.publish(im, m)
}

// publish makes the documents im and m those of the image.
func (f *fetch) publish(im oci.Image, m oci.Manifest) {
	raw := marshal(im)
	id := oci.FromBytes(raw)
	f.blobs = append(f.blobs, blob{id, raw})
	m.Config = oci.Descriptor{MediaType: oci.TypeConfig, Digest: id, Size: int64(len(raw))}
	f.manifest = m
	raw = marshal(m)
	target := oci.Descriptor{MediaType: oci.TypeManifest, Digest: oci.FromBytes(raw), Size: int64(len(raw))}
	f.blobs = append(f.blobs, blob{target.Digest, raw})
	f.image = image.Image{Target: target, Manifest: target.Digest, ID: id, Platform: im.Platform,
		Created: *im.Created, Config: im.Config, Layers: im.RootFS.DiffIDs}
}

// asOCI gives a layer the media type of an OCI manifest: the bytes are the same.
func asOCI(d oci.Descriptor) oci.Descriptor {
	if d.MediaType == oci.TypeDockerLayer {
		d.MediaType = oci.TypeLayerGzip
	}
	return d
}
