// Package suspend has containers end by a checkpoint, and go on from it or from an archive of it.
//
// It is what package checkpoint does to processes, put together with the life of containers: the keeper learns of an end as of any
// other, and a restore is a start.
package suspend

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/checkpoint"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/content"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/spec"
)

// Request asks for a checkpoint of a container.
type Request struct {
	Options       checkpoint.Request
	Export        io.Writer    // takes an archive; nil: the checkpoint stays with the container
	Exported      func() error // is called when the archive is written, before the container ends
	Keep          bool         // it stays as well
	IgnoreVolumes bool         // they need not be in the archive

	// Layer writes what a container changed of its image.
	Layer func(ctx context.Context, c *spec.Container, w io.Writer) error
}

// Checkpoint writes the processes of a container to files. Unless it is left running, the container has ended then.
func Checkpoint(ctx context.Context, site draft.Site, s container.Snapshot, req Request) error {
	if nest.Inside() {
		return notOrdinary("checkpoint container", s.Spec.Name)
	}
	if err := checkpointable(s, req); err != nil {
		return err
	}
	p, err := site.PlanOf(ctx, s.Spec)
	if err != nil {
		return advice.Add(err)
	}
	pids, err := cgroup.Group(s.State.Groups).Procs()
	if err != nil {
		return err
	}
	asked := false
	r := req.Options
	r.Ready = func(dir string, d *checkpoint.Document) error {
		if req.Export != nil {
			if err := req.export(ctx, dir, d, site.Dirs); err != nil {
				return err
			}
		}
		if r.LeaveRunning {
			return nil
		}
		asked = true
		return kept.AskEnd(site.Dirs, s) // it is not to be started again
	}
	err = checkpoint.Take(site.Dirs, s, pids, p, r)
	if err != nil && asked {
		if proc, gone := s.Process(); gone == nil { // it goes on
			proc.Close()
			kept.UnaskEnd(site.Dirs, s)
		}
	}
	if err != nil {
		return advice.Add(errs.Wrap("checkpoint container", s.Spec.Name, err))
	}
	events.Tell(site.Dirs.Root, s.Spec, "checkpoint", nil)
	if asked {
		err = awaitEnd(ctx, site.Dirs, s.Spec.ID)
	}
	if err == nil && req.Export != nil && !req.Keep && !s.Spec.Life.Remove {
		err = checkpoint.Forget(site.Dirs, s.Spec.ID)
	}
	return err
}

func notOrdinary(what, name string) error {
	return errs.Newf(errs.Unsupported, what, name, "criu looks into processes as only root of the host may").WithHint("do it as root, with containers of root")
}

// checkpointable refuses what cannot be, or what would lose something.
func checkpointable(s container.Snapshot, req Request) error {
	no := func(kind errs.Kind, why, hint string) error {
		return errs.Newf(kind, "checkpoint container", s.Spec.Name, why).WithHint(hint)
	}
	switch {
	case s.State.Status != container.Running:
		return no(errs.Invalid, "it does not run", "corten start starts it")
	case !s.State.Kept:
		return no(errs.Unsupported, "it runs in the foreground, and would end with the command that waits for it", "start it with -d")
	case s.Frozen():
		return no(errs.Invalid, "it is paused", "corten unpause lets it go on")
	case s.Spec.Life.Remove && req.Export == nil && !req.Options.LeaveRunning && !req.Options.Pre:
		return no(errs.Invalid, "it is removed when it ends, and its checkpoint with it (--rm)", "write it to a file with --export, or let it go on with --leave-running")
	case req.Export != nil && s.Spec.Image.Platform:
		return no(errs.Unsupported, "its root is the host's own, which no archive has", "leave --export out: corten restore makes it again on this host")
	case req.Export != nil && !req.IgnoreVolumes && hasVolumes(s.Spec):
		return no(errs.Unsupported, "what is in its volumes is not part of an archive", "copy them otherwise, and say --ignore-volumes")
	}
	return nil
}

func hasVolumes(c *spec.Container) bool {
	for _, m := range c.Mounts {
		if m.Type == spec.Volume {
			return true
		}
	}
	return false
}

// awaitEnd waits until a container's keeper has recorded its end.
func awaitEnd(ctx context.Context, dirs container.Dirs, id spec.ContainerID) error {
	return kept.Tended(dirs, func() error {
		err := container.Await(ctx, dirs, id, func(st *container.State) bool { return st == nil || !st.Alive() })
		if err == nil {
			_, err = container.AwaitIdle(ctx, dirs, id)
		}
		return err
	})
}

// export writes an archive, while the container stands still. The layer goes to a file first: a tar wants its size.
func (r Request) export(ctx context.Context, dir string, d *checkpoint.Document, dirs container.Dirs) error {
	f, err := os.CreateTemp(container.Dir(dirs, d.Spec.ID), ".layer-")
	if err != nil {
		return errs.Wrap("write layer", "", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return errs.Wrap("write layer", "", err)
	}
	err = r.Layer(ctx, d.Spec, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = checkpoint.Write(r.Export, dir, d, f)
	}
	if err == nil {
		err = r.Exported()
	}
	return err
}

// Restore makes a container of its checkpoint. It runs then.
func Restore(ctx context.Context, site draft.Site, s container.Snapshot, o checkpoint.Options) error {
	if nest.Inside() {
		return notOrdinary("restore container", s.Spec.Name)
	}
	if s.State.Alive() {
		return errs.Newf(errs.Invalid, "restore container", s.Spec.Name, "it runs").WithHint("stop it first; corten restore --import makes another one")
	}
	if _, err := checkpoint.Load(checkpoint.Dir(site.Dirs, s.Spec.ID)); err != nil {
		return errs.Wrap("restore container", s.Spec.Name, err)
	}
	if err := criu.Check(); err != nil {
		return err
	}
	if err := checkpoint.Want(site.Dirs, s.Spec.ID, o); err != nil {
		return err
	}
	if err := kept.Start(ctx, site, s, kept.ByRestore); err != nil {
		return errs.Wrap("restore container", s.Spec.Name, err)
	}
	events.Tell(site.Dirs.Root, s.Spec, "restore", nil)
	return nil
}

// ImportRequest asks for a container to be made of an archive.
type ImportRequest struct {
	Archive io.Reader // a plain tar
	Name    string    // empty: as it was
	Options checkpoint.Options
	Ask     draft.Request // how its image is brought, if it is not here
	AnyIP   bool          // addresses that the container was given are left out
	AnyMAC  bool
	Trust   bool // rights over the host that it asks for are given
}

// Import makes a container of an archive, which runs then.
func Import(ctx context.Context, site draft.Site, req ImportRequest) (spec.ContainerID, error) {
	if nest.Inside() {
		return "", notOrdinary("restore container", req.Name)
	}
	if err := criu.Check(); err != nil {
		return "", err
	}
	a, err := checkpoint.ReadArchive(req.Archive)
	if err != nil {
		return "", err
	}
	c := a.Document.Spec
	if !req.Trust {
		if err := checkpoint.Trustful(c); err != nil {
			return "", err
		}
	}
	renew(c, req)
	req.Ask.Spec = c
	d, err := site.TakeOver(ctx, req.Ask)
	if err != nil {
		return "", advice.Add(err)
	}
	if err := unpack(ctx, site, a, d); err != nil {
		return "", advice.Add(errors.Join(err, kept.Unmake(d.Box)))
	}
	if err := checkpoint.Want(site.Dirs, c.ID, req.Options); err != nil {
		return "", errors.Join(err, kept.Unmake(d.Box))
	}
	if err := kept.StartLocked(ctx, site, d.Box, kept.ByImport); err != nil {
		return "", advice.Add(errs.Wrap("restore container", c.Name, err))
	}
	events.Tell(site.Dirs.Root, c, "restore", nil)
	return c.ID, nil
}

// renew makes the description of a container that of another one.
func renew(c *spec.Container, req ImportRequest) {
	c.ID = container.NewID()
	if req.Name != "" {
		c.Name = req.Name
	}
	if c.Namespaces.User.Mode == spec.UserAuto {
		c.Namespaces.User.UIDMap, c.Namespaces.User.GIDMap = nil, nil
	}
	for i := range c.Networking.Attachments {
		at := &c.Networking.Attachments[i]
		if req.AnyIP {
			at.IP4, at.IP6 = netip.Addr{}, netip.Addr{}
		}
		if req.AnyMAC {
			at.MAC = ""
		}
	}
}

// unpack fills a new container from an archive.
func unpack(ctx context.Context, site draft.Site, a *checkpoint.Archive, d *draft.Draft) error {
	parts, err := site.Root(ctx, d.Spec)
	if err != nil {
		return err
	}
	return a.Unpack(d.Box.Dir(), func(layer io.Reader) error {
		root, err := content.OpenRoot(content.Container{Name: d.Spec.Name, Parts: parts}, true)
		if err != nil {
			return err
		}
		defer root.Close()
		return root.Apply(ctx, layer)
	})
}
