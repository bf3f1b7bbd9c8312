package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/kept"
)

// What faces see of attachments.
type (
	Attached      = kept.Attached
	AttachRequest = kept.AttachRequest
)

// Attach attaches to a container that has a keeper.
func (e *Engine) Attach(ctx context.Context, ref string, req AttachRequest) (*Attached, error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	return kept.Attach(ctx, e.site(), s, req)
}

// HasStdin reports whether input can be sent to a container.
func (e *Engine) HasStdin(ref string) bool {
	s, err := e.find(ref)
	return err == nil && s.Spec.Process.Stdin
}
