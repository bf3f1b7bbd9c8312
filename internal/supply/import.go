package supply

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/layer"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// ImportRequest describes an image made from the tar of a root file system.
type ImportRequest struct {
	Tar      io.Reader // plain or compressed
	From     string    // where it came from, for the history
	Ref      *oci.Ref  // nil: the image gets no name
	Platform oci.Platform
	Message  string   // comment; "" is "Imported from" From
	Changes  []string // instructions of a Dockerfile
	Now      time.Time
}

// Import makes an image of one layer.
func Import(ctx context.Context, l *image.Library, req ImportRequest) (image.Image, error) {
	const op = "import image"
	if req.Ref != nil && req.Ref.Digest != "" {
		return image.Image{}, errs.Newf(errs.Invalid, op, req.Ref.Familiar(), "a digest cannot be chosen").WithHint("name the image by a tag")
	}
	config, err := image.Change(oci.Config{}, req.Changes)
	if err != nil {
		return image.Image{}, err
	}
	lease, err := l.Store().Lease("import " + req.From)
	if err != nil {
		return image.Image{}, err
	}
	defer lease.Close()
	tar, _, err := layer.Decompress(&canceling{ctx, io.NopCloser(req.Tar)}, "")
	if err != nil {
		return image.Image{}, errs.Wrap(op, req.From, err)
	}
	defer tar.Close()
	f := begin(l, lease)
	x, err := f.read(ctx, tar, "")
	if err != nil {
		return image.Image{}, errs.Wrap(op, req.From, err)
	}
	if err := lease.PutLayers(ctx, x); err != nil {
		return image.Image{}, err
	}
	req.describe(f, config, x)
	im, err := f.settle(ctx)
	if err != nil {
		return image.Image{}, err
	}
	if req.Ref != nil {
		im.Ref = image.Key(*req.Ref)
	}
	return im, l.Store().SetRef(im.Ref, im.Target)
}

// describe makes the documents of an image of the layer x.
func (req ImportRequest) describe(f *fetch, config oci.Config, x *tree.Index) {
	now := req.Now.UTC()
	comment := req.Message
	if comment == "" {
		comment = "Imported from " + req.From
	}
	f.publish(oci.Image{
		Created:  &now,
		Platform: req.Platform,
		Config:   config,
		RootFS:   oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{x.DiffID}},
		History:  []oci.History{{Created: &now, Comment: comment}},
	}, oci.Manifest{
		SchemaVersion: 2,
		MediaType:     oci.TypeManifest,
		// As the image says it, the layer was never packed: its blob would be the tar itself.
		Layers: []oci.Descriptor{{MediaType: oci.TypeLayer, Digest: x.DiffID, Size: x.Size}},
	})
}

// marshal encodes what cannot fail to be encoded.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
