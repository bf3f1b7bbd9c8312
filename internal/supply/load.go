package supply

import (
	"context"
	"io"

	"github.com/cortenhq/corten/internal/archive"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
)

// Loaded is an image that came from an archive.
type Loaded struct {
	Image image.Image
	Refs  []oci.Ref // the names it got; empty: it is known by its id only
}

// LoadFile loads the images of an archive or layout folder. It calls each when one is
// here. An error ends the loading; the images before it are here.
func LoadFile(ctx context.Context, l *image.Library, path string, want *oci.Platform, tell func(image.Event), each func(Loaded)) error {
	src, err := archive.Open(ctx, path, l.Root())
	if err != nil {
		return err
	}
	return load(ctx, l, src, want, tell, each)
}

// LoadStream is LoadFile for an archive that comes from a pipe.
func LoadStream(ctx context.Context, l *image.Library, r io.Reader, want *oci.Platform, tell func(image.Event), each func(Loaded)) error {
	src, err := archive.Read(ctx, r, l.Root())
	if err != nil {
		return err
	}
	return load(ctx, l, src, want, tell, each)
}

func load(ctx context.Context, l *image.Library, src *archive.Source, want *oci.Platform, tell func(image.Event), each func(Loaded)) error {
	defer src.Close()
	images := src.Images()
	if len(images) == 0 {
		return errs.Newf(errs.NotFound, "load image", "", "the archive holds none").WithHint("save the image again")
	}
	for _, im := range images {
		x, err := loadOne(ctx, l, archived{src}, im, want, tell)
		if err != nil {
			return during("load image", im.Desc.Digest.Short(), err)
		}
		each(Loaded{x, im.Refs})
	}
	return nil
}

func loadOne(ctx context.Context, l *image.Library, from archived, im archive.Image, want *oci.Platform, tell func(image.Event)) (image.Image, error) {
	lease, err := l.Store().Lease("load " + string(im.Desc.Digest))
	if err != nil {
		return image.Image{}, err
	}
	defer lease.Close()
	raw, err := from.Manifest(ctx, im.Desc)
	if err != nil {
		return image.Image{}, err
	}
	name := string(im.Desc.Digest)
	if len(im.Refs) > 0 {
		name = im.Refs[0].String()
	}
	tell(image.Event{Stage: image.Pulling, Name: name})
	f := begin(l, lease)
	f.from, f.want, f.tell = from, want, tell
	target := oci.Descriptor{MediaType: im.Desc.MediaType, Digest: im.Desc.Digest, Size: int64(len(raw))}
	x, err := f.run(ctx, target, raw)
	if err != nil {
		return image.Image{}, err
	}
	if len(im.Refs) == 0 {
		return x, l.Store().SetRef("", target) // kept without a name, unless it has one already
	}
	for _, ref := range im.Refs {
		x.Ref = image.Key(ref)
		if err := l.Store().SetRef(x.Ref, target); err != nil {
			return image.Image{}, err
		}
	}
	return x, nil
}
