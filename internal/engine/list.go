package engine

import (
	"context"
	"errors"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/spec"
)

// What faces see of containers.
type (
	Container       = container.View
	ContainerFilter = container.Filter
)

// ParseContainerFilter reads what people write after --filter.
func ParseContainerFilter(list []string) (ContainerFilter, error) { return container.ParseFilter(list) }

// Containers lists containers, the youngest first, by outlines: without what no list shows.
// With an error the list is of those that could be read.
func (e *Engine) Containers(ctx context.Context, f ContainerFilter) ([]Container, error) {
	swept := e.sweep()
	if len(f.Ancestors) > 0 {
		of, err := e.descendants(ctx, f.Ancestors)
		if err != nil {
			return nil, err
		}
		f.Descends = func(i spec.Image) bool { return of[oci.Digest(i.Config)] }
	}
	for i, ref := range f.Networks {
		f.Whole = true // outlines do not say whether a container has the host's network
		if n, err := e.Network(ref); err == nil {
			f.Networks[i] = n.Name
		}
	}
	list, err := container.Views(e.dirs(), f)
	return list, errors.Join(swept, err)
}

// descendants is the ids of images and of those that are made of them. A name that no image
// has may still be that of a container's.
func (e *Engine) descendants(ctx context.Context, names []string) (map[oci.Digest]bool, error) {
	lib, err := e.images()
	if err != nil {
		return nil, err
	}
	all, err := lib.List(ctx, ImageFilter{})
	if err != nil {
		return nil, err
	}
	of := map[oci.Digest]bool{}
	for _, name := range names {
		x, err := lib.Find(name, nil)
		if err != nil {
			continue
		}
		of[x.ID] = true
		for _, s := range all {
			of[s.Image.ID] = of[s.Image.ID] || s.Image.MadeOf(x)
		}
	}
	return of, nil
}

// Container is all that is known of the container that a user means.
func (e *Engine) Container(ref string) (Container, error) {
	if err := e.sweep(); err != nil {
		return Container{}, err
	}
	s, err := e.find(ref)
	if err != nil {
		return Container{}, err
	}
	return container.Look(e.dirs(), s), nil
}

// ContainerSize is how many bytes the container wrote, and how many it and its image have.
func (e *Engine) ContainerSize(ctx context.Context, c Container) (own, whole int64, err error) {
	if own, err = container.Written(e.dirs(), c.Spec.ID); err != nil || c.Spec.Image.Config == "" {
		return own, own, err
	}
	d, err := e.InspectImage(ctx, c.Spec.Image.Config, "")
	if err != nil { // removed meanwhile, or damaged: what the container wrote is known all the same
		return own, own, nil
	}
	return own, own + d.Size, nil
}

// ContainerUsage is what a container uses of the machine.
type ContainerUsage = container.Usage

// ContainerUsage reads what a container, seen whole, uses.
func (e *Engine) ContainerUsage(c Container) (ContainerUsage, error) { return container.UsageOf(c) }

// ContainerProcesses is the processes of a container that runs, as the host numbers them.
func (e *Engine) ContainerProcesses(c Container) ([]int, error) {
	if c.State.Status != container.Running {
		return nil, errs.Newf(errs.Invalid, "list processes of container", c.Spec.Name, "it does not run").WithHint("corten start " + c.Spec.Name)
	}
	if len(c.State.Groups) == 0 {
		return container.InNamespace(c.State.PID), nil
	}
	return cgroup.Group(c.State.Groups).Procs()
}

// ContainerFacts is what can be found out about a container besides.
type ContainerFacts = container.Facts

// ContainerFacts finds out about a container.
func (e *Engine) ContainerFacts(c Container) ContainerFacts { return container.FactsOf(e.dirs(), c) }
