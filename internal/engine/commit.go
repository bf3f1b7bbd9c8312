package engine

import (
	"bufio"
	"context"
	"io"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/content"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
)

// CommitRequest asks for an image of what a container has become.
type CommitRequest struct {
	Container string
	Name      string // reference; empty: none
	Author    string
	Message   string
	Changes   []string // instructions of a Dockerfile
	NoPause   bool     // a running container goes on meanwhile
}

// NewLayer is a layer to be put on an image, which gives another image.
type NewLayer struct {
	Base      oci.Digest // manifest
	Tar       io.Reader
	Config    oci.Config
	Name      string // reference; empty: none
	Author    string
	Message   string
	CreatedBy string
}

// Commit makes an image of a container: a layer of what it changed, on the image that it was
// made from. The container keeps what it has, so the content is copied, once.
func (e *Engine) Commit(ctx context.Context, req CommitRequest) (Image, error) {
	lib, err := e.supplied()
	if err != nil {
		return Image{}, err
	}
	s, err := e.find(req.Container)
	if err != nil {
		return Image{}, err
	}
	if s.Spec.Image.Platform {
		return Image{}, errs.Newf(errs.Unsupported, "commit container", s.Spec.Name, "it is made on the host's own root, which is no image").
			WithHint("corten diff lists what it changed, and corten cp copies that; corten run IMAGE makes containers that can be committed")
	}
	l := NewLayer{Base: oci.Digest(s.Spec.Image.Manifest), Name: req.Name, Author: req.Author, Message: req.Message}
	below, err := lib.Find(s.Spec.Image.Config, nil)
	if err != nil {
		return Image{}, err
	}
	l.Config = s.Spec.Config(below.Config)
	l.CreatedBy = strings.Join(l.Config.Cmd, " ")
	if l.Config, err = image.Change(l.Config, req.Changes); err != nil {
		return Image{}, err
	}
	x, err := e.commit(ctx, lib, s, l, !req.NoPause)
	if err != nil {
		return Image{}, advice.Add(errs.Wrap("commit container", s.Spec.Name, err))
	}
	e.tell(s.Spec, "commit", map[string]string{"imageID": string(x.ID), "imageRef": x.Ref, "comment": req.Message})
	return x, nil
}

// commit reads the layer while the supplier makes the image of it.
func (e *Engine) commit(ctx context.Context, lib *image.Library, s container.Snapshot, l NewLayer, pause bool) (Image, error) {
	parts, err := e.site().Root(ctx, s.Spec)
	if err != nil {
		return Image{}, err
	}
	thaw := func() error { return nil }
	if pause && s.State.Status == container.Running {
		if thaw, err = freeze(ctx, cgroup.Group(s.State.Groups)); err != nil {
			return Image{}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	rd, w := io.Pipe()
	l.Tar = rd
	thawed := make(chan error, 1)
	go func() {
		buf := bufio.NewWriterSize(w, 256<<10)
		err := content.Layer(ctx, parts, upperOf(e.dirs(), s.Spec), ownPlaces(), buf)
		if err == nil {
			err = buf.Flush()
		}
		thawed <- thaw() // all is read: what follows is the disk's
		w.CloseWithError(err)
	}()
	x, err := e.cfg.Supplier.Commit(ctx, lib, l)
	cancel()
	rd.Close()
	if terr := <-thawed; err == nil {
		err = terr
	}
	return x, err
}

// freeze stops a container where it stands and returns what lets it go on. One that is
// paused stays so.
func freeze(ctx context.Context, g cgroup.Group) (thaw func() error, err error) {
	if frozen, err := g.Frozen(); err != nil || frozen || len(g) == 0 {
		return func() error { return nil }, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := g.Freeze(ctx); err != nil {
		_ = g.Thaw()
		return nil, err
	}
	return g.Thaw, nil
}
