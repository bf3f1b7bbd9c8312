// Package engine has one method for each verb of the user. It composes the nouns and the
// mechanisms and holds no state of its own: the files are the state.
package engine

import (
	"path/filepath"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/kept"
	"github.com/cortenhq/corten/internal/spec"
)

// Config says where things are.
type Config struct {
	Root string // lasting state; /var/lib/corten
	Run  string // state that a reboot forgets; /run/corten

	Supplier Supplier // brings images; nil: corten-image does
	Notify   string   // NOTIFY_SOCKET of the caller, sd_notify(3); empty: nobody wants to know
}

// Engine is the way in for every face.
type Engine struct {
	cfg Config
}

// Open returns an engine on the given folders. It creates nothing; what a verb needs is
// made when it is needed.
func Open(cfg Config) (*Engine, error) {
	for _, dir := range []*string{&cfg.Root, &cfg.Run} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, errs.Wrap("find state folder", *dir, err)
		}
		*dir = abs
	}
	return &Engine{cfg: cfg}, nil
}

// site is what the works below need to know of us.
func (e *Engine) site() draft.Site {
	return draft.Site{Dirs: e.dirs(), Notify: e.cfg.Notify, Bring: e.bring, Sweep: e.sweep}
}

// sweep undoes what containers left whose owner was killed.
func (e *Engine) sweep() error { return kept.Sweep(e.dirs()) }

// tell writes down that something happened to a container.
func (e *Engine) tell(c *spec.Container, action string, more map[string]string) {
	events.Tell(e.cfg.Root, c, action, more)
}

func (e *Engine) dirs() container.Dirs { return container.Dirs{Root: e.cfg.Root, Run: e.cfg.Run} }
