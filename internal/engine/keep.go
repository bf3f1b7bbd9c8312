package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/spec"
)

// Here is what the processes of kept containers execute, one after the other.

// Origin is who asks for a start.
type Origin = kept.Origin

// Origins of a start.
const (
	ByRun     = kept.ByRun
	ByStart   = kept.ByStart
	ByRestart = kept.ByRestart
	ByRestore = kept.ByRestore
)

// KeepStart is the process of a kept container from its beginning to the launch; then it is
// the keeper. It returns only if that did not come about.
func (e *Engine) KeepStart(ctx context.Context, id spec.ContainerID, by Origin) error {
	return kept.Begin(ctx, e.site(), id, by)
}

// KeepEnd is the process of a kept container once that has ended. The status is the container's.
func (e *Engine) KeepEnd(id spec.ContainerID) (status int, err error) { return kept.End(e.dirs(), id) }

// KeepProbe checks a container's health once, for its keeper.
func (e *Engine) KeepProbe(ctx context.Context, id spec.ContainerID) error {
	return kept.Probe(ctx, e.dirs(), id)
}
