package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/enter"
	"github.com/cortenhq/corten/internal/launch"
)

// What faces see of commands in containers.
type (
	ExecRequest = enter.Request
	Executing   = enter.Command
)

// Exec starts a command in a container.
func (e *Engine) Exec(ctx context.Context, ref string, req ExecRequest) (*Executing, error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	return enter.Start(ctx, e.dirs(), s, req)
}

// HideArguments blanks this process's command line before it shows in a container. The caller
// must have copies of what it still needs.
func HideArguments() { launch.HideArguments() }
