package draft

import (
	"context"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/rootfs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/store"
)

// imageBase is an image that is here, or that the policy lets us pull; dry, it must be
// here.
func (s Site) imageBase(ctx context.Context, req Request, dry bool) (base, error) {
	lib, err := s.Images()
	if err != nil {
		return base{}, err
	}
	x, err := s.imageFor(ctx, lib, req, dry)
	if err != nil {
		return base{}, err
	}
	t, ok, err := lib.Tree(x)
	if err == nil && !ok {
		if dry {
			return base{}, errs.Newf(errs.NotFound, "find tree of image", x.Ref, "it has yet to be made for this kernel").
				WithHint("corten pull makes it")
		}
		t, err = lib.MakeTree(ctx, x)
	}
	if err != nil {
		return base{}, err
	}
	facts, err := t.Facts()
	if err != nil {
		return base{}, err
	}
	how := sealed(req.Spec.Image)
	return base{
		image:    spec.Image{Name: req.Spec.Image.Name, Manifest: string(x.Manifest), Config: string(x.ID), Sealed: t.Kind == store.Sealed},
		config:   x.Config,
		root:     func(l rootfs.Layer) plan.Root { return treeRoot(lib, t, l, how) },
		accounts: func() plan.Accounts { return plan.Accounts{Passwd: facts.Passwd, Group: facts.Group} },
		hold:     func(c *spec.Container) error { return lib.Hold(x, t, c) },
	}, nil
}

// sealed is what can be asked of the content of a container's files. One that was made before there were
// seals may have metadata without them in its writable layer.
func sealed(im spec.Image) plan.Sealed {
	if fresh := im.Manifest == ""; fresh || im.Sealed {
		return plan.Always
	}
	return plan.WhereNamed
}

func treeRoot(lib *image.Library, t image.Tree, l rootfs.Layer, how plan.Sealed) plan.Root {
	switch t.Kind {
	case store.Dir:
		return rootfs.Directory(t.Path, l)
	case store.Sealed:
		return rootfs.Sealed(t.Path, lib.Store().ObjectsDir(), l, how)
	}
	return rootfs.Image(t.Path, lib.Store().ObjectsDir(), l)
}

// imageFor finds the image, here or in its registry.
func (s Site) imageFor(ctx context.Context, lib *image.Library, req Request, dry bool) (image.Image, error) {
	name := req.Spec.Image.Name
	want, err := image.PlatformOf(req.Platform)
	if err != nil {
		return image.Image{}, err
	}
	if req.Pull != PullAlways || dry {
		x, err := lib.Find(name, want)
		if err == nil || dry || req.Pull == PullNever || !errs.Is(err, errs.NotFound) {
			return x, err
		}
		if ref, rerr := oci.ParseRef(name); rerr == nil && req.Progress != nil {
			req.Progress(image.Event{Stage: image.Absent, Name: ref.Familiar()})
		}
	}
	if err := s.Bring(ctx, req); err != nil {
		return image.Image{}, err
	}
	return lib.Find(name, want)
}
