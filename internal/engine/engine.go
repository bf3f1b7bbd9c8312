// Package engine has one method for each verb of the user. It composes the nouns and the
// mechanisms and holds no state of its own: the files are the state.
package engine

import (
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
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

func (e *Engine) dirs() container.Dirs { return container.Dirs{Root: e.cfg.Root, Run: e.cfg.Run} }

// helper finds a program of ours: beside the command itself, or where make install puts
// it. The path is resolved once a start, by system calls that cost microseconds.
func helper(name string) (string, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", errs.Wrap("find", name, err)
	}
	dir := filepath.Dir(self)
	for _, p := range []string{filepath.Join(dir, name), filepath.Join(dir, "../libexec/corten", name), "/usr/libexec/corten/" + name} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errs.Newf(errs.NotFound, "find", name, "it is neither beside "+self+" nor in ../libexec/corten").
		WithHint("run make install, or keep the programs of bin/ together")
}
