package engine

import (
	"context"
	"time"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/spec"
)

// Create makes a container and does not start it.
func (e *Engine) Create(ctx context.Context, req RunRequest) (spec.ContainerID, error) {
	e.nameNetworks(req.Spec)
	d, err := e.site().Create(ctx, req, container.Kept)
	if err != nil {
		return "", advice.Add(err)
	}
	return d.Spec.ID, advice.Add(d.Box.Unlock())
}

// RunDetached makes a container and starts it with a keeper. One that cannot be started is
// not kept.
func (e *Engine) RunDetached(ctx context.Context, req RunRequest) (spec.ContainerID, error) {
	e.nameNetworks(req.Spec)
	d, err := e.site().Create(ctx, req, container.Fresh)
	if err != nil {
		return "", advice.Add(err)
	}
	if err := kept.StartLocked(ctx, e.site(), d.Box, ByRun); err != nil {
		return "", advice.Add(err)
	}
	soon := time.Now().Add(time.Millisecond)
	container.ForgetGone(e.dirs(), func() bool { return time.Now().After(soon) })
	return d.Spec.ID, advice.Add(e.sweep())
}
