package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
	"github.com/cortenhq/corten/internal/registry/registries"
	"github.com/cortenhq/corten/internal/store"
)

// What faces see of images.
type (
	Image        = image.Image
	ImageEvent   = image.Event
	ImageSummary = image.Summary
	ImageDetails = image.Details
	ImageFilter  = image.Filter
	LoadedImage  = image.Loaded
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

// images is the library of images. The environment may choose the form of trees, which is
// for those who test both.
func (e *Engine) images() (*image.Library, error) {
	return image.Open(e.cfg.Root, e.cfg.Run, os.Getenv("CORTEN_TREE"))
}

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

// Pull brings an image from its registry.
func (e *Engine) Pull(ctx context.Context, req PullRequest) (Pulled, error) {
	ref, err := oci.ParseRef(req.Name)
	if err != nil {
		return Pulled{}, err
	}
	want, err := platformOf(req.Platform)
	if err != nil {
		return Pulled{}, err
	}
	lib, err := e.images()
	if err != nil {
		return Pulled{}, err
	}
	tell := listener(req.Progress)
	client, err := registryClient(tell)
	if err != nil {
		return Pulled{}, err
	}
	defer client.Close()
	x, news, err := lib.Pull(ctx, client, ref, want, tell)
	return Pulled{ref, x, news}, err
}

func listener(f func(ImageEvent)) func(ImageEvent) {
	if f == nil {
		return func(ImageEvent) {}
	}
	return f
}

// platformOf reads --platform; nil if it was not given.
func platformOf(s string) (*oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p := oci.ParsePlatform(s)
	if p.OS == "" || p.Architecture == "" {
		return nil, errs.Newf(errs.Invalid, "read platform", s, "want OS/ARCHITECTURE").WithHint("write one such as linux/arm64")
	}
	return &p, nil
}

// registryClient is made of what administrator and user say about registries, in Corten's
// files and in those of Docker and Podman.
func registryClient(tell func(ImageEvent)) (*registry.Client, error) {
	settings, err := registries.Load("/etc/corten/registries.json", "/etc/containers/registries.conf")
	if err != nil {
		return nil, err
	}
	keys := registry.Keychain{Files: registry.AuthFiles(os.Getenv, os.Getuid())}
	return registry.New(registry.Config{
		Auth:       keys.Lookup,
		Registries: settings,
		CertDirs:   certDirs(),
		Progress: func(ev registry.Event) {
			if ev.Retry != nil {
				tell(ImageEvent{Stage: image.Retrying, Name: ev.Object, Layer: ev.Digest, Err: ev.Retry})
			}
		},
	}), nil
}

// certDirs are the folders that Podman and Docker know, the user's own first.
func certDirs() []string {
	dirs := []string{"/etc/corten/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserHomeDir(); err == nil && os.Getuid() != 0 {
		dirs = append([]string{filepath.Join(home, ".config/containers/certs.d")}, dirs...)
	}
	return dirs
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
	want, err := platformOf(req.Platform)
	if err != nil {
		return err
	}
	lib, err := e.images()
	if err != nil {
		return err
	}
	tell := listener(req.Progress)
	if req.Path == "" {
		return lib.LoadStream(ctx, req.Stream, want, tell, req.Each)
	}
	return lib.LoadFile(ctx, req.Path, want, tell, req.Each)
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
	in := image.ImportRequest{Tar: req.Stream, From: "-", Message: req.Message, Changes: req.Changes,
		Platform: image.Host(), Now: time.Now()}
	if req.Name != "" {
		ref, err := oci.ParseRef(req.Name)
		if err != nil {
			return Image{}, err
		}
		in.Ref = &ref
	}
	want, err := platformOf(req.Platform)
	if err != nil {
		return Image{}, err
	}
	if want != nil {
		in.Platform = *want
	}
	if req.Path != "" {
		f, err := os.Open(req.Path)
		if err != nil {
			return Image{}, errs.Wrap("import image", req.Path, err)
		}
		defer f.Close()
		in.Tar, in.From = f, req.Path
	}
	lib, err := e.images()
	if err != nil {
		return Image{}, err
	}
	return lib.Import(ctx, in)
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
	want, err := platformOf(platform)
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
	return lib.Tag(name, ref)
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
		each(r)
		deleted = deleted || len(r.Deleted) > 0
	}
	if deleted {
		_, err := lib.Collect(ctx)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// PruneImages removes images that have no name, or with all those that no container uses,
// and frees their space.
func (e *Engine) PruneImages(ctx context.Context, all bool, f ImageFilter) (Removed, Freed, error) {
	lib, err := e.images()
	if err != nil {
		return Removed{}, Freed{}, err
	}
	r, err := lib.Prune(ctx, all, f)
	freed, cerr := lib.Collect(ctx)
	return r, freed, errors.Join(err, cerr)
}
