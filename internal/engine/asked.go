package engine

import (
	"context"

	"github.com/cortenhq/corten/internal/spec"
)

// Asked is what a user asked for who got this container, and the container as it is. Making a
// container of the first gives an equal one, of whatever the image is by then.
func (e *Engine) Asked(ctx context.Context, ref string) (asked, is *spec.Container, err error) {
	s, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	asked, err = e.site().Asked(ctx, s.Spec.ID)
	return asked, s.Spec, err
}
