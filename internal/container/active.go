package container

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Record is what run/active/ID says: what has to be undone when the container's owner is
// gone. It is complete before anything of it is done.
type Record struct {
	Name      string   `json:"name"`
	Groups    []string `json:"groups,omitempty"`    // cgroup directories to empty and remove
	Volumes   []string `json:"volumes,omitempty"`   // anonymous ones, which go with the container
	Connected bool     `json:"connected,omitempty"` // to networks, where it has claims
	Remove    bool     `json:"remove,omitempty"`    // --rm
	Kept      bool     `json:"kept,omitempty"`      // the container outlives its owner, who has only to be replaced
	Limited   bool     `json:"limited,omitempty"`   // what it may write to disk, by a project of its own
	Fresh     bool     `json:"fresh,omitempty"`     // it was made for a start, and goes with it if nobody was told of that
}

// Care says what becomes of a container whose owner dies.
type Care int

const (
	Tied  Care = iota // it dies, too
	Kept              // it lives on, and somebody else looks after it
	Fresh             // likewise; and if it was not started by then it is removed, for nobody knows of it
)

func recordOf(c *spec.Container, groups []string) Record {
	return Record{Name: c.Name, Groups: groups, Volumes: c.AnonymousVolumes(), Connected: c.Connected(), Remove: c.Life.Remove, Limited: c.Root.Size > 0}
}

// Lock is the right to look after a container: the file run/active/ID, flocked. The file
// appears with its lock held and its record written (O_TMPFILE, then linkat), so a file
// without a lock always means that an owner died.
type Lock struct {
	file *os.File
	path string
}

// lock takes the lock of a container that nobody looks after.
func lock(dirs Dirs, id spec.ContainerID, r Record) (*Lock, error) {
	folder := filepath.Join(dirs.Run, "active")
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == unix.ENOENT {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, errs.Wrap("lock container", id.Short(), err)
		}
		fd, err = unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, errs.Wrap("lock container", id.Short(), err)
	}
	l := &Lock{file: os.NewFile(uintptr(fd), "lock"), path: filepath.Join(folder, string(id))}
	if err := l.publish(r); err != nil {
		_ = l.file.Close()
		if errors.Is(err, fs.ErrExist) {
			return nil, errs.Newf(errs.Busy, "lock container", id.Short(), "another command is looking after it")
		}
		return nil, errs.Wrap("lock container", id.Short(), err)
	}
	return l, nil
}

func (l *Lock) publish(r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := l.file.Write(b); err != nil {
		return err
	}
	from := "/proc/self/fd/" + strconv.Itoa(int(l.file.Fd()))
	return unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, l.path, unix.AT_SYMLINK_FOLLOW)
}

// release gives the lock back. The file goes first: whoever opened it meanwhile sees that
// it is no longer linked.
func (l *Lock) release() error {
	err := os.Remove(l.path)
	return errors.Join(err, l.file.Close())
}

// orphan takes over the lock of a dead owner. It is nil if the owner lives or somebody else
// was faster. Every command asks this of every container that runs: it takes three system
// calls, and no file of package os, whose poller would add four.
func orphan(path string) (*Lock, Record) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, Record{}
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		_ = unix.Close(fd)
		return nil, Record{}
	}
	f := os.NewFile(uintptr(fd), path)
	if !sameFile(f, path) {
		_ = f.Close()
		return nil, Record{}
	}
	return &Lock{file: f, path: path}, readRecord(f)
}

func readRecord(f *os.File) Record {
	var r Record
	if err := json.NewDecoder(f).Decode(&r); err != nil {
		r = Record{} // not ours: there is nothing to undo but the file itself
	}
	return r
}

func sameFile(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Undo is what other packages do to undo what a container held.
type Undo struct {
	KillGroups    func(dirs []string) error                          // ends all processes and removes the groups
	Disconnect    func(id spec.ContainerID) error                    // takes it off its networks, and gives back its addresses
	RemoveVolumes func(maker spec.ContainerID, names []string) error // and what the maker left half-made

	// Adopt starts a process that looks after a kept container, with the lock as its own.
	Adopt func(id spec.ContainerID, lock *os.File) error
}

// ReadSpec reads spec.json.
func ReadSpec(dirs Dirs, id spec.ContainerID) (*spec.Container, error) {
	b, err := os.ReadFile(filepath.Join(Dir(dirs, id), "spec.json"))
	if err != nil {
		return nil, errs.Wrap("read container", id.Short(), err)
	}
	return parseSpec(id, b)
}

func parseSpec(id spec.ContainerID, b []byte) (*spec.Container, error) {
	c := new(spec.Container)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, errs.Wrap("read container", id.Short(), err)
	}
	if c.Version > spec.Version {
		return nil, errs.Newf(errs.Unsupported, "read container", id.Short(), "it was made by a newer Corten").
			WithHint("use that version, or a newer one")
	}
	return c, nil
}

// ReadState reads state.json.
func ReadState(dirs Dirs, id spec.ContainerID) (State, error) {
	var s State
	b, err := os.ReadFile(filepath.Join(Dir(dirs, id), "state.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, errs.Wrap("read state of container", id.Short(), err)
}
