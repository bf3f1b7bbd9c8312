package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/advice"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/foreground"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/plan"
)

// What faces see of a run.
type (
	RunRequest = draft.Request
	PullPolicy = draft.PullPolicy
	Passed     = draft.Passed
	Running    = foreground.Running
	Exit       = ending.Exit
)

// Pull policies, with Docker's names.
const (
	PullMissing = draft.PullMissing
	PullAlways  = draft.PullAlways
	PullNever   = draft.PullNever
)

// Plan says what Start would do, and does nothing.
func (e *Engine) Plan(ctx context.Context, req RunRequest) (plan.Plan, error) {
	e.nameNetworks(req.Spec)
	d, err := e.site().Dry(ctx, req)
	if err != nil {
		return plan.Plan{}, err
	}
	return d.Plan()
}

// Start makes a container and starts it with this process's stdin, stdout and stderr.
func (e *Engine) Start(ctx context.Context, req RunRequest) (*Running, error) {
	kernel.CalmMonitor() // until the container has run for a moment, or we end
	e.nameNetworks(req.Spec)
	d, err := e.site().Draft(ctx, req)
	if err != nil {
		return nil, advice.Add(err)
	}
	r, err := foreground.Start(d)
	return r, advice.Add(err)
}
