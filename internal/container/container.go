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
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/quota"
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

	groups []string // cgroup directories, as the record has them
	hidden bool     // its directory and its name are gone
}

// Status is what a container is doing.
type Status string

// The states of state.json. Running or restarting with a lock that nobody holds means that
// the owner died.
const (
	Created    Status = "created"
	Running    Status = "running"
	Restarting Status = "restarting" // it has ended and waits to be started again
	Exited     Status = "exited"
)

// State is state.json: what is known of a container besides its description.
type State struct {
	Version    int       `json:"version"`
	Status     Status    `json:"status"`
	PID        int       `json:"pid,omitempty"`        // of its PID 1, as the host sees it
	StartTicks uint64    `json:"startTicks,omitempty"` // when that began, field 22 of /proc/PID/stat: a pid may have another owner later
	Groups     []string  `json:"groups,omitempty"`     // its cgroup directories, while it runs
	Kept       bool      `json:"kept,omitempty"`       // it has a keeper; else whoever started it waits for it
	Started    time.Time `json:"started,omitzero"`
	Finished   time.Time `json:"finished,omitzero"`
	ExitCode   int       `json:"exitCode"`
	OOM        bool      `json:"oomKilled,omitempty"`
	Message    string    `json:"message,omitempty"`
	Restarts   int       `json:"restarts,omitempty"` // times the restart policy has started it again
	Attempts   int       `json:"attempts,omitempty"` // of these, those in a row after which it did not run for long
	Stopped    bool      `json:"stopped,omitempty"`  // a user asked for its end: unless-stopped does not start it at boot
}

// Alive reports whether there is somebody who looks after the container.
func (s State) Alive() bool { return s.Status == Running || s.Status == Restarting }

// NewID returns a random id.
func NewID() spec.ContainerID {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return spec.ContainerID(hex.EncodeToString(b[:]))
}

// Create takes the lock of a new container, makes its directory and claims its name. Until
// Save has written its spec it is not complete, and Sweep removes it if we die.
func Create(dirs Dirs, c *spec.Container, groups []string, care Care) (*Container, error) {
	x, err := locked(dirs, c, groups, care)
	if err != nil {
		return nil, err
	}
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

// locked takes the lock of a container, with what has to be undone if we die.
func locked(dirs Dirs, c *spec.Container, groups []string, care Care) (*Container, error) {
	r := recordOf(c, groups)
	r.Kept, r.Fresh = care != Tied, care == Fresh
	l, err := lock(dirs, c.ID, r)
	if err != nil {
		return nil, err
	}
	return &Container{Spec: c, dirs: dirs, lock: l, groups: groups}, nil
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

// Dirs is the state folders that the container is in.
func (x *Container) Dirs() Dirs { return x.dirs }

// Dir is the container's directory.
func (x *Container) Dir() string { return Dir(x.dirs, x.Spec.ID) }

// LogDir is where the log of a container is.
func LogDir(dirs Dirs, id spec.ContainerID) string { return filepath.Join(Dir(dirs, id), "log") }

// Dir is the directory of a container.
func Dir(dirs Dirs, id spec.ContainerID) string {
	return filepath.Join(dirs.Root, "containers", string(id))
}

// Save writes the description. That of a container which is kept outlasts a power cut, as
// what it wrote does; the other's may be found empty, and it is removed then.
func (x *Container) Save() error {
	d := disk.Durable
	if x.Spec.Life.Remove {
		d = disk.Volatile
	}
	return errs.Wrap("save container", x.Spec.Name, writeJSON(filepath.Join(x.Dir(), "spec.json"), x.Spec, d))
}

// SetState replaces state.json. How a container ended outlasts a power cut.
func (x *Container) SetState(s State) error {
	s.Version = spec.Version
	d := disk.Volatile
	if s.Status == Exited {
		d = disk.Durable
	}
	path := filepath.Join(x.Dir(), "state.json")
	err := writeJSON(path, s, d)
	if errs.Is(err, errs.NoSpace) { // so that a container can end on a full disk
		_ = os.Remove(path + ".new")
		if overwrite(path, s, d) == nil {
			err = nil
		}
	}
	return errs.Wrap("save state of container", x.Spec.Name, err)
}

// overwrite writes a file of less than a block in its place, which needs no room. What is left
// of a longer one becomes white space. It is one write, and of less than what a disk writes at
// once (512 bytes) as a rule: still, replacing is better where there is room.
func overwrite(path string, v any, d disk.Durability) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b = append(b, bytes.Repeat([]byte{'\n'}, max(1, int(info.Size())-len(b)))...)
	if _, err := f.WriteAt(b, 0); err != nil || d != disk.Durable {
		return err
	}
	return f.Sync()
}

// writeJSON replaces a file at once: a reader sees the old bytes or the new ones. One that
// was killed leaves at most the file NAME.new, which the next writer takes over.
func writeJSON(path string, v any, d disk.Durability) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && d == disk.Durable {
		err = f.Sync() // before it has the name: a power cut could leave that on no content
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil || d != disk.Durable {
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}

// Remove removes the container and lets go of its name and lock. If that does not succeed
// the record stays, for the next sweep to try again.
func (x *Container) Remove() error {
	if !x.hidden {
		if err := remove(x.dirs, x.Spec.ID, x.Spec.Name, x.Spec.Root.Size > 0); err != nil {
			x.Abandon()
			return err
		}
	}
	return x.Unlock()
}

// remove takes away the directory first and the name last: a name whose directory is gone
// is free (claimName), while a directory without its name could not be found.
func remove(dirs Dirs, id spec.ContainerID, name string, limited bool) error {
	if err := takeAway(dirs, Dir(dirs, id)); err != nil {
		return errs.Wrap("remove container", name, err)
	}
	if limited {
		if err := quota.Release(dirs.Root, owner(id)); err != nil {
			return err
		}
	}
	return dropName(dirs, name, id)
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

// Abandon lets go of the lock and leaves the record behind, as death would.
func (x *Container) Abandon() {
	if x.lock != nil {
		_ = x.lock.file.Close()
		x.lock = nil
	}
}
