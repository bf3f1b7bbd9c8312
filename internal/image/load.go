package image

import (
	"context"
	"io"

	"github.com/cortenhq/corten/internal/archive"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Loaded is an image that came from an archive.
type Loaded struct {
	Image Image
	Refs  []oci.Ref // the names it got; empty: it is known by its id only
}

// LoadFile loads the images of an archive or layout folder. It calls each when one is
// here. An error ends the loading; the images before it are here.
func (l *Library) LoadFile(ctx context.Context, path string, want *oci.Platform, tell func(Event), each func(Loaded)) error {
	src, err := archive.Open(ctx, path, l.root)
	if err != nil {
		return err
	}
	return l.load(ctx, src, want, tell, each)
}

// LoadStream is LoadFile for an archive that comes from a pipe.
func (l *Library) LoadStream(ctx context.Context, r io.Reader, want *oci.Platform, tell func(Event), each func(Loaded)) error {
	src, err := archive.Read(ctx, r, l.root)
	if err != nil {
		return err
	}
	return l.load(ctx, src, want, tell, each)
}

func (l *Library) load(ctx context.Context, src *archive.Source, want *oci.Platform, tell func(Event), each func(Loaded)) error {
	defer src.Close()
	images := src.Images()
	if len(images) == 0 {
		return errs.Newf(errs.NotFound, "load image", "", "the archive holds none").WithHint("save the image again")
	}
	for _, im := range images {
		x, err := l.loadOne(ctx, archived{src}, im, want, tell)
		if err != nil {
			return during("load image", im.Desc.Digest.Short(), err)
		}
		each(Loaded{x, im.Refs})
	}
	return nil
}

func (l *Library) loadOne(ctx context.Context, from archived, im archive.Image, want *oci.Platform, tell func(Event)) (Image, error) {
	lease, err := l.store.Lease("load " + string(im.Desc.Digest))
	if err != nil {
		return Image{}, err
	}
	defer lease.Close()
	raw, err := from.Manifest(ctx, im.Desc)
	if err != nil {
		return Image{}, err
	}
	name := string(im.Desc.Digest)
	if len(im.Refs) > 0 {
		name = im.Refs[0].String()
	}
	tell(Event{Stage: Pulling, Name: name})
	f := &fetch{from: from, lease: lease, want: want, tell: tell}
	target := oci.Descriptor{MediaType: im.Desc.MediaType, Digest: im.Desc.Digest, Size: int64(len(raw))}
	x, err := l.fetch(ctx, f, target, raw)
	if err != nil {
		return Image{}, err
	}
	if len(im.Refs) == 0 {
		return x, l.store.SetRef("", target) // kept without a name, unless it has one already
	}
	for _, ref := range im.Refs {
		x.Ref = key(ref)
		if err := l.store.SetRef(x.Ref, target); err != nil {
			return Image{}, err
		}
	}
	return x, nil
}
