package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
)

// What faces see of images.
type (
	Image        = image.Image
	ImageEvent   = image.Event
	ImageSummary = image.Summary
	ImageDetails = image.Details
	ImageFilter  = image.Filter
	Removed      = image.Removed
	Freed        = store.Freed
)

// Stages of an ImageEvent.
const (
	ImageAbsent   = image.Absent
	ImagePulling  = image.Pulling
	LayerWaiting  = image.Waiting
	LayerPresent  = image.Present
	LayerFetching = image.Fetching
	LayerComplete = image.Complete
	ImageRetrying = image.Retrying
	ImageArrived  = image.Arrived
)

// HostPlatform is the platform that containers run on here.
func HostPlatform() oci.Platform { return image.Host() }

// images is the library of images.
func (e *Engine) images() (*image.Library, error) { return e.site().Images() }

// PullRequest is a pull that was asked for.
type PullRequest struct {
	Name     string
	Platform string           // "linux/arm64"; empty: this machine's
	Progress func(ImageEvent) // nil: nobody looks
}

// Pulled is what a pull came to.
type Pulled struct {
	Ref   oci.Ref
	Image Image
	News  bool // something changed
}

// Supplier brings images that are not here. The program that links one is corten-image;
// corten itself starts that when it has to, and stays light.
type Supplier interface {
	Pull(ctx context.Context, lib *image.Library, req PullRequest) (Pulled, error)
	Load(ctx context.Context, lib *image.Library, req LoadRequest) error
	Import(ctx context.Context, lib *image.Library, req ImportRequest) (Image, error)
	Commit(ctx context.Context, lib *image.Library, l NewLayer) (Image, error)
}

// Pull brings an image from its registry.
func (e *Engine) Pull(ctx context.Context, req PullRequest) (Pulled, error) {
	lib, err := e.supplied()
	if err != nil {
		return Pulled{}, err
	}
	p, err := e.cfg.Supplier.Pull(ctx, lib, req)
	if err == nil {
		bare := p.Ref
		bare.Tag, bare.Digest = "", ""
		e.tellImage("pull", p.Ref.Familiar(), bare.Familiar(), p.Image.Config.Labels)
	}
	return p, err
}

// supplied is the library, if this program can bring images into it.
func (e *Engine) supplied() (*image.Library, error) {
	if e.cfg.Supplier == nil {
		return nil, errs.Newf(errs.Internal, "bring image", "", "this program links no supplier of images")
	}
	return e.images()
}

// LoadedImage is an image that came from an archive.
type LoadedImage struct {
	Image Image
	Refs  []oci.Ref // the names it got; empty: it is known by its id only
}

// LoadRequest is an archive to be loaded.
type LoadRequest struct {
	Path     string // file or layout folder; empty: Stream
	Stream   io.Reader
	Platform string
	Progress func(ImageEvent)
	Each     func(LoadedImage) // called for each image when it is here
}

// Load brings the images of an archive.
func (e *Engine) Load(ctx context.Context, req LoadRequest) error {
	lib, err := e.supplied()
	if err != nil {
		return err
	}
	each := req.Each
	req.Each = func(l LoadedImage) {
		e.tellImage("load", string(l.Image.ID), string(l.Image.ID), l.Image.Config.Labels)
		for _, ref := range l.Refs {
			e.tellImage("tag", string(l.Image.ID), ref.Familiar(), l.Image.Config.Labels)
		}
		each(l)
	}
	return e.cfg.Supplier.Load(ctx, lib, req)
}

// ImportRequest is a root file system to become an image.
type ImportRequest struct {
	Path     string // a tar; empty: Stream
	Stream   io.Reader
	Name     string // reference; empty: none
	Message  string
	Changes  []string
	Platform string
}

// Import makes an image of one layer.
func (e *Engine) Import(ctx context.Context, req ImportRequest) (Image, error) {
	lib, err := e.supplied()
	if err != nil {
		return Image{}, err
	}
	x, err := e.cfg.Supplier.Import(ctx, lib, req)
	if err == nil {
		e.tellImage("import", string(x.ID), string(x.ID), x.Config.Labels)
	}
	return x, err
}

// Images lists images. With an error the list is of those that could be read.
func (e *Engine) Images(ctx context.Context, f ImageFilter) ([]ImageSummary, error) {
	lib, err := e.images()
	if err != nil {
		return nil, err
	}
	return lib.List(ctx, f)
}

// ParseImageFilter reads what people write after --filter.
func ParseImageFilter(list []string) (ImageFilter, error) { return image.ParseFilter(list, time.Now()) }

// InspectImage describes an image.
func (e *Engine) InspectImage(ctx context.Context, name, platform string) (ImageDetails, error) {
	want, err := image.PlatformOf(platform)
	if err != nil {
		return ImageDetails{}, err
	}
	lib, err := e.images()
	if err != nil {
		return ImageDetails{}, err
	}
	return lib.Inspect(ctx, name, want)
}

// TagImage gives an image one more name.
func (e *Engine) TagImage(name, to string) error {
	ref, err := oci.ParseRef(to)
	if err != nil {
		return err
	}
	lib, err := e.images()
	if err != nil {
		return err
	}
	if err := lib.Tag(name, ref); err != nil {
		return err
	}
	if x, err := lib.Find(to, nil); err == nil {
		e.tellImage("tag", string(x.ID), ref.Familiar(), x.Config.Labels)
	}
	return nil
}

// RemoveImages removes names and images, all that it can, and then frees the space of what
// is left over. It calls each after each removal.
func (e *Engine) RemoveImages(ctx context.Context, names []string, force bool, each func(Removed)) error {
	lib, err := e.images()
	if err != nil {
		return err
	}
	var all []error
	deleted := false
	for _, name := range names {
		r, err := lib.Remove(name, force)
		if err != nil {
			all = append(all, err)
			continue
		}
		e.tellRemoved(r)
		each(r)
		deleted = deleted || len(r.Deleted) > 0
	}
	if deleted {
		_, err := lib.Collect(ctx)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// VerifyImages reads all that is kept of images and compares it with its digests. Each thing that is
// wrong is one of the errors that were joined.
func (e *Engine) VerifyImages(ctx context.Context) (image.Verified, error) {
	lib, err := e.images()
	if err != nil {
		return image.Verified{}, err
	}
	return lib.Verify(ctx)
}

// PruneImages removes images that have no name, or with all those that no container uses,
// and frees their space.
func (e *Engine) PruneImages(ctx context.Context, all bool, f ImageFilter) (Removed, Freed, error) {
	lib, err := e.images()
	if err != nil {
		return Removed{}, Freed{}, err
	}
	r, err := lib.Prune(ctx, all, f)
	e.tellRemoved(r)
	freed, cerr := lib.Collect(ctx)
	return r, freed, errors.Join(err, cerr)
}
