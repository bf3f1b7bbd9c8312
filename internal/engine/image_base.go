package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/disk"
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
func (e *Engine) imageBase(ctx context.Context, req RunRequest, dry bool) (base, error) {
	lib, err := e.images()
	if err != nil {
		return base{}, err
	}
	x, err := e.imageFor(ctx, lib, req, dry)
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
	return base{
		image:    spec.Image{Name: req.Spec.Image.Name, Manifest: string(x.Manifest), Config: string(x.ID)},
		config:   x.Config,
		root:     func(l rootfs.Layer) plan.Root { return treeRoot(lib, t, l) },
		accounts: func() plan.Accounts { return plan.Accounts{Passwd: facts.Passwd, Group: facts.Group} },
		hold:     func(c *spec.Container) error { return holdImage(lib, x, t, c) },
	}, nil
}

func treeRoot(lib *image.Library, t image.Tree, l rootfs.Layer) plan.Root {
	if t.Kind == store.Dir {
		return rootfs.Directory(t.Path, l)
	}
	return rootfs.Image(t.Path, lib.Store().ObjectsDir(), l)
}

// imageFor finds the image, here or in its registry.
func (e *Engine) imageFor(ctx context.Context, lib *image.Library, req RunRequest, dry bool) (image.Image, error) {
	name := req.Spec.Image.Name
	want, err := PlatformOf(req.Platform)
	if err != nil {
		return image.Image{}, err
	}
	if req.Pull != PullAlways || dry {
		x, err := lib.Find(name, want)
		if err == nil || dry || req.Pull == PullNever || !errs.Is(err, errs.NotFound) {
			return x, err
		}
		if ref, rerr := oci.ParseRef(name); rerr == nil {
			listener(req.Progress)(ImageEvent{Stage: image.Absent, Name: ref.Familiar()})
		}
	}
	if err := e.bring(ctx, req); err != nil {
		return image.Image{}, err
	}
	return lib.Find(name, want)
}

// holdImage makes the image stay as long as the container does. The container's directory
// exists and is removed before Release; if a power cut takes the hold away it takes a
// container as young as that too.
func holdImage(lib *image.Library, x image.Image, t image.Tree, c *spec.Container) error {
	return lib.Store().Hold(store.Hold{
		ID:       string(c.ID),
		Owner:    "container " + c.Name,
		Dir:      filepath.Join("containers", string(c.ID)),
		Manifest: x.Manifest,
		Tree:     t.ID,
	}, disk.Volatile)
}

// releaseImage ends the hold of a container that is no more. Where nobody comes to do
// this, the next collection does.
func releaseImage(dirs container.Dirs, c *spec.Container) error {
	if c.Image.Platform {
		return nil
	}
	s, err := store.Open(dirs.Root)
	if err != nil {
		return err
	}
	return s.Release(string(c.ID))
}

// Said is the failure of another program of ours, which has told the user about it.
type Said struct{ Code int }

func (e *Said) Error() string { return "another program failed with status " + strconv.Itoa(e.Code) }

// bring pulls an image, by corten-image if this program cannot.
func (e *Engine) bring(ctx context.Context, req RunRequest) error {
	if e.cfg.Supplier != nil {
		_, err := e.Pull(ctx, PullRequest{Name: req.Spec.Image.Name, Platform: req.Platform, Progress: req.Progress})
		return err
	}
	tool, err := helper("corten-image")
	if err != nil {
		return err
	}
	args := []string{"--root", e.cfg.Root, "--run", e.cfg.Run, "pull"}
	if req.Platform != "" {
		args = append(args, "--platform", req.Platform)
	}
	cmd := exec.CommandContext(ctx, tool, append(args, "--", req.Spec.Image.Name)...)
	cmd.Stderr = os.Stderr
	if req.Quiet {
		cmd.Args = slices.Insert(cmd.Args, len(cmd.Args)-2, "--quiet")
	} else {
		cmd.Stdout = os.Stderr // stdout is the container's
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return &Said{max(x.ExitCode(), 1)}
	}
	return errs.Wrap("start", tool, err)
}
