package engine

import (
	"context"
	"io"

	"github.com/cortenhq/corten/internal/checkpoint"
	"github.com/cortenhq/corten/internal/content"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/suspend"
)

// What faces ask for.
type (
	CheckpointRequest = suspend.Request
	ResumeRequest     = suspend.ImportRequest
	RestoreOptions    = checkpoint.Options
)

// Checkpoint writes the processes of a container to files. Unless it is left running, the container has ended then.
func (e *Engine) Checkpoint(ctx context.Context, ref string, req CheckpointRequest) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	req.Layer = func(ctx context.Context, c *spec.Container, w io.Writer) error {
		parts, err := e.site().Root(ctx, c)
		if err != nil {
			return err
		}
		return content.Layer(ctx, parts, upperOf(e.dirs(), c), ownPlaces(), w)
	}
	return suspend.Checkpoint(ctx, e.site(), s, req)
}

// Restore makes a container of its checkpoint. It runs then.
func (e *Engine) Restore(ctx context.Context, ref string, o RestoreOptions) error {
	s, err := e.find(ref)
	if err != nil {
		return err
	}
	return suspend.Restore(ctx, e.site(), s, o)
}

// ImportCheckpoint makes a container of an archive, which runs then.
func (e *Engine) ImportCheckpoint(ctx context.Context, req ResumeRequest) (spec.ContainerID, error) {
	return suspend.Import(ctx, e.site(), req)
}
