package engine

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// PullPolicy says when run asks the registry.
type PullPolicy string

// Pull policies, with Docker's names.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// RunRequest is what the user asked to run. Spec holds only what was asked for; the engine
// completes it from the image.
type RunRequest struct {
	Spec     *spec.Container
	Pull     PullPolicy
	Platform string // "linux/arm64"; empty: this machine's
}

// Exit is how a container ended, in Docker's terms.
type Exit struct {
	Code    int         // 0-255; 128+n for signal n
	Signal  unix.Signal // 0 if it exited by itself
	Message string      // why, if there is more to say: "out of memory: limit 64 MiB"
}

// Running is a container that this process started and has to wait for.
type Running struct {
	ID       spec.ContainerID
	Terminal *os.File // the master side; nil without a terminal
}

// Plan says what Start would do, and does nothing.
func (e *Engine) Plan(ctx context.Context, req RunRequest) (plan.Plan, error) {
	return plan.Plan{}, nil
}

// Start makes a container and starts it with this process's stdin, stdout and stderr.
func (e *Engine) Start(ctx context.Context, req RunRequest) (*Running, error) { return nil, nil }

// Signal sends a signal to the container's main process.
func (r *Running) Signal(sig unix.Signal) error { return nil }

// Wait waits for the end, records it, and removes what --rm says.
func (r *Running) Wait() (Exit, error) { return Exit{}, nil }
