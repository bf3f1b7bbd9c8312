package engine

import (
	"errors"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/kept"
)

// ReloadKeepers has all keepers execute the program that is installed now, after an upgrade,
// and tells of each that executed another one. Containers go on.
func (e *Engine) ReloadKeepers(told func(name string)) error {
	if err := e.sweep(); err != nil {
		return err
	}
	list, err := container.List(e.dirs())
	problems := []error{err}
	for _, s := range list {
		if !s.State.Alive() || !s.State.Kept {
			continue
		}
		was, err := kept.Reload(e.dirs(), s.Spec.ID)
		if was {
			told(s.Spec.Name)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
