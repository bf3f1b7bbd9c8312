// Package container keeps containers on disk.
//
// A container is a directory, containers/ID, with its description (spec.json), its state
// (state.json) and its writable layer (upper, work). Whoever
// looks after it holds the lock on run/active/ID, so that the kernel itself reports when
// nobody does any more. That file also says what has to be undone when the container ends,
// and is written before any of it is done; Sweep undoes what a dead owner left.
// LIFECYCLE.md has the table of places, locks and states.
package container

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Dirs are the two state folders.
type Dirs struct {
	Root string // containers/, names/
	Run  string // active/, ids/
}

// Container is a container on disk, locked by this process.
type Container struct {
	Spec *spec.Container
	dirs Dirs
	lock *Lock
}

// Status is what a container is doing.
type Status string

// The states of state.json. Running with a lock that nobody holds means that the owner
// died.
const (
	Created Status = "created"
	Running Status = "running"
	Exited  Status = "exited"
)

// State is state.json: what is known of a container besides its description.
type State struct {
	Version  int       `json:"version"`
	Status   Status    `json:"status"`
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int       `json:"exitCode"`
	OOM      bool      `json:"oomKilled,omitempty"`
	Message  string    `json:"message,omitempty"`
}

// NewID returns a random id.
func NewID() spec.ContainerID {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return spec.ContainerID(hex.EncodeToString(b[:]))
}

// Create takes the lock of a new container, makes its directory and claims its name. Until
// Save has written its spec it is not complete, and Sweep removes it if we die.
func Create(dirs Dirs, c *spec.Container, groups []string) (*Container, error) {
	l, err := lock(dirs, c.ID, Record{Name: c.Name, Groups: groups, Remove: c.Life.Remove})
	if err != nil {
		return nil, err
	}
	x := &Container{Spec: c, dirs: dirs, lock: l}
	if err := makeDirs(x.Dir()); err != nil {
		_ = x.Remove()
		return nil, errs.Wrap("create container", c.Name, err)
	}
	if err := x.claimName(); err != nil {
		_ = x.Remove()
		return nil, err
	}
	return x, nil
}

// makeDirs makes what is missing, the whole path only if the parent is not there: this is
// on the way of every start.
func makeDirs(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return err
	}
	for _, d := range [...]string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	// It becomes the container's root directory, which is for all of its users, whatever our umask.
	return os.Chmod(filepath.Join(dir, "upper"), 0o755)
}

// claimName makes names/NAME a symbolic link to the id: the creation of a link is atomic
// and fails if there is one.
func (x *Container) claimName() error {
	names := filepath.Join(x.dirs.Root, "names")
	link := filepath.Join(names, x.Spec.Name)
	for {
		err := os.Symlink(string(x.Spec.ID), link)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := os.MkdirAll(names, 0o700); err != nil {
				return errs.Wrap("claim name", x.Spec.Name, err)
			}
		case errors.Is(err, fs.ErrExist):
			holder, _ := os.Readlink(link)
			if _, err := os.Stat(filepath.Join(x.dirs.Root, "containers", holder)); holder != "" && errors.Is(err, fs.ErrNotExist) {
				// The directory is made before the name, so a name without one is a leftover.
				_ = os.Remove(link)
				continue
			}
			return errs.New(errs.Exists, "name container", x.Spec.Name, errors.New("container "+spec.ContainerID(holder).Short()+" has that name")).
				WithHint("choose another --name, or remove that container")
		default:
			return errs.Wrap("claim name", x.Spec.Name, err)
		}
	}
}

// Dirs is the state folders that the container is in.
func (x *Container) Dirs() Dirs { return x.dirs }

// Dir is the container's directory.
func (x *Container) Dir() string { return Dir(x.dirs, x.Spec.ID) }

// Dir is the directory of a container.
func Dir(dirs Dirs, id spec.ContainerID) string {
	return filepath.Join(dirs.Root, "containers", string(id))
}

// Save writes the description and the first state.
func (x *Container) Save() error {
	if err := writeJSON(filepath.Join(x.Dir(), "spec.json"), x.Spec); err != nil {
		return errs.Wrap("save container", x.Spec.Name, err)
	}
	return nil
}

// SetState replaces state.json.
func (x *Container) SetState(s State) error {
	s.Version = spec.Version
	return errs.Wrap("save state of container", x.Spec.Name, writeJSON(filepath.Join(x.Dir(), "state.json"), s))
}

// writeJSON replaces a file at once: a reader sees the old bytes or the new ones.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Remove removes the container and lets go of its name and lock.
func (x *Container) Remove() error {
	err := remove(x.dirs, x.Spec.ID, x.Spec.Name)
	_ = x.Unlock()
	return err
}

// remove takes away the directory first and the name last: a name whose directory is gone
// is free (claimName), while a directory without its name could not be found.
func remove(dirs Dirs, id spec.ContainerID, name string) error {
	if err := takeAway(dirs, Dir(dirs, id)); err != nil {
		return errs.Wrap("remove container", name, err)
	}
	link := filepath.Join(dirs.Root, "names", name)
	if holder, err := os.Readlink(link); err == nil && holder == string(id) {
		_ = os.Remove(link)
	}
	return nil
}

// Unlock lets go of the lock, when all that its record names is undone; the container
// stays as it is on disk.
func (x *Container) Unlock() error {
	if x.lock == nil {
		return nil
	}
	l := x.lock
	x.lock = nil
	return l.release()
}
