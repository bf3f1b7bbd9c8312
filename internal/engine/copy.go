package engine

import (
	"context"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/content"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// CopyRequest is a copy between a container and the host.
type CopyRequest struct {
	Container string
	Path      string // in the container
	Host      string // path on the host; empty: a tar from or to a stream
	Options   CopyOptions
}

// What faces see of the content of containers.
type (
	CopyOptions = content.Options
	Change      = content.Change
)

// CopyOut copies from a container to the host, or writes a tar to w. It returns how many
// bytes of files that were.
func (e *Engine) CopyOut(ctx context.Context, req CopyRequest, w io.Writer) (n int64, err error) {
	err = e.inContainer(ctx, req.Container, false, func(r *content.Root) error {
		if req.Host == "" {
			n, err = r.OutTar(ctx, req.Path, w, req.Options)
		} else {
			n, err = r.Out(ctx, req.Path, req.Host, req.Options)
		}
		return err
	})
	return n, advice.Add(err)
}

// CopyIn copies from the host, or a tar from rd, to a container.
func (e *Engine) CopyIn(ctx context.Context, req CopyRequest, rd io.Reader) (n int64, err error) {
	err = e.inContainer(ctx, req.Container, true, func(r *content.Root) error {
		if req.Host == "" {
			n, err = r.InTar(ctx, rd, req.Path, req.Options)
		} else {
			n, err = r.In(ctx, req.Host, req.Path, req.Options)
		}
		return err
	})
	return n, advice.Add(err)
}

// inContainer opens a container's root for one copy.
func (e *Engine) inContainer(ctx context.Context, ref string, write bool, do func(*content.Root) error) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	parts, err := e.site().Root(ctx, s.Spec)
	if err != nil {
		return err
	}
	c := content.Container{Name: s.Spec.Name, Parts: parts, ReadOnly: s.Spec.Root.ReadOnly, Mounts: e.mountsOf(s.Spec), Foreign: foreign(s.Spec)}
	proc, err := s.Process()
	// The first start has yet to make the places of mounts; and no layer that lies on the host's
	// root can be a lower one over that (overlayfs refuses overlapping layers).
	if s.State.Status == container.Created || s.Spec.Image.Platform {
		write = true
	}
	switch {
	case err == nil:
		defer proc.Close()
		c.Process, c.PID = proc, s.State.PID
	case !errs.Is(err, errs.NotFound):
		return err
	case write: // nobody may start it meanwhile
		box, err := container.Open(e.dirs(), s.Spec, nil, container.Tied)
		if errs.Is(err, errs.Busy) {
			return errs.New(errs.Busy, "write to container", s.Spec.Name, err).WithHint("it is being started or ended: try again")
		}
		if err != nil {
			return err
		}
		defer box.Unlock()
	}
	root, err := content.OpenRoot(c, write)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := do(root); err != nil {
		return err
	}
	e.tell(s.Spec, "copy", nil)
	return nil
}

// foreign is the range of ids of a container on the host's root that has one of its own; any
// will do while it does not run.
func foreign(c *spec.Container) []spec.IDMap {
	u := c.Namespaces.User
	switch {
	case !c.Image.Platform || u.Mode == spec.UserHost:
		return nil
	case len(u.UIDMap) > 0:
		return u.UIDMap
	}
	return container.Map(container.LikelyIDs(c.ID))
}

// mountsOf is what a container mounts of the host, those nearest to the root first.
func (e *Engine) mountsOf(c *spec.Container) []content.Mount {
	var list []content.Mount
	for _, m := range c.Mounts {
		x := content.Mount{Source: m.Source, Target: m.Target, Recursive: m.Recursive, ReadOnly: m.ReadOnly}
		switch m.Type {
		case spec.Bind:
		case spec.Volume:
			x.Source = filepath.Join(volume.Dir(e.cfg.Root, m.Source), "_data")
		default:
			continue // in memory, which is gone
		}
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(a, b content.Mount) int {
		return strings.Count(path.Clean(a.Target), "/") - strings.Count(path.Clean(b.Target), "/")
	})
	return list
}

// Diff lists what a container changed in its root.
func (e *Engine) Diff(ctx context.Context, ref string) ([]Change, error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	parts, err := e.site().Root(ctx, s.Spec)
	if err != nil {
		return nil, err
	}
	list, err := content.Diff(ctx, parts, upperOf(e.dirs(), s.Spec), ownPlaces())
	return list, advice.Add(errs.Wrap("compare container", s.Spec.Name, err))
}

func upperOf(dirs container.Dirs, c *spec.Container) string {
	return filepath.Join(container.Dir(dirs, c.ID), "upper")
}

// ownPlaces are where every start mounts something, and so makes a place for it.
func ownPlaces() []string {
	return []string{"/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"}
}

// Export writes a container's root, without what is mounted in it, as a tar.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	if s.Spec.Image.Platform {
		return errs.Newf(errs.Unsupported, "export container", s.Spec.Name, "its root is the host's own").
			WithHint("corten diff lists what it changed, and corten cp copies that")
	}
	parts, err := e.site().Root(ctx, s.Spec)
	if err != nil {
		return err
	}
	if err := content.Export(ctx, parts, w); err != nil {
		return advice.Add(errs.Wrap("export container", s.Spec.Name, err))
	}
	e.tell(s.Spec, "export", nil)
	return nil
}
