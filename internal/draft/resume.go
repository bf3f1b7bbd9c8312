package draft

import (
	"os"

	"github.com/cortenhq/corten/internal/checkpoint"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
)

// Resume makes the container of its checkpoint, where Launch would start it by the same plan. known is told of its PID 1
// before anything of it runs. files are what it shares with its keeper, by role.
func (d *Draft) Resume(p plan.Plan, env launch.Env, files map[string]*os.File, known func(pid int) error) (*launch.Process, error) {
	id, dirs := d.Spec.ID, d.Site.Dirs
	dir := checkpoint.Dir(dirs, id)
	doc, err := checkpoint.Load(dir)
	if err != nil {
		return nil, err
	}
	options, err := checkpoint.Wanted(dirs, id)
	if err != nil {
		return nil, err
	}
	if err := d.settleVolumes(); err != nil {
		return nil, err
	}
	if err := d.makeGroups(); err != nil {
		return nil, err
	}
	env.Seeded = d.seeded
	r := &checkpoint.Resume{Dir: dir, Doc: doc, Spec: d.Spec, Groups: d.groups.Group, Files: files,
		Known: known, Options: options}
	if d.Net != nil {
		r.Connect = d.Net.tell
	}
	return r.Run(p, env)
}
