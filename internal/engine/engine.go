// Package engine has one method for each verb of the user. It composes the nouns and the
// mechanisms and holds no state of its own: the files are the state.
package engine

// Config says where things are.
type Config struct {
	Root string // lasting state; /var/lib/corten
	Run  string // state that a reboot forgets; /run/corten
}

// Engine is the way in for every face.
type Engine struct {
	cfg Config
}

// Open returns an engine on the given folders. It creates nothing; what a verb needs is
// made when it is needed.
func Open(cfg Config) (*Engine, error) { return &Engine{cfg: cfg}, nil }
