package life

import (
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/resctrl"
)

// planShare plans the container's share of caches and bandwidth: it is made with the control groups and
// entered as they are. What it returns makes it.
func planShare(s *record.State, in *bundled.Input) (func() error, error) {
	want := s.Container.IntelRdt
	if want == nil {
		return func() error { return nil }, nil
	}
	root, err := resctrl.Mounted()
	if err != nil {
		return nil, err
	}
	if s.Share, err = resctrl.Plan(root, s.ID, *want); err != nil {
		return nil, err
	}
	g := &in.Groups
	g.Make.Dirs = append(g.Make.Dirs, s.Share.Dir)
	g.Make.Writes = append(g.Make.Writes, s.Share.Words(*want)...)
	g.Enter = append(g.Enter, s.Share.Enter()...)
	return func() error { return s.Share.Make(root, *want) }, nil
}
