package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// The lock of a kept container goes from process to process: it belongs to an open file
// (flock(2)), which a child or the next program of a process inherits.

// KeepDir is where a keeper finds and leaves what a reboot may forget.
func KeepDir(dirs Dirs, id spec.ContainerID) string {
	return filepath.Join(dirs.Run, "keep", string(id))
}

// Open takes the lock of a container that nobody looks after, with a new record.
func Open(dirs Dirs, c *spec.Container, groups []string, care Care) (*Container, error) {
	x, err := locked(dirs, c, groups, care)
	if err != nil {
		return nil, err
	}
	// It may have been changed, or removed, before we had the lock.
	if x.Spec, err = ReadSpec(dirs, c.ID); err != nil {
		_ = x.Unlock()
		return nil, err
	}
	return x, nil
}

// Inherit makes a lock that this process was given its own.
func Inherit(dirs Dirs, id spec.ContainerID, lock *os.File) (*Container, error) {
	path := filepath.Join(dirs.Run, "active", string(id))
	if !sameFile(lock, path) {
		return nil, errs.Newf(errs.Invalid, "take over container", id.Short(), "the descriptor is not its lock")
	}
	unix.CloseOnExec(int(lock.Fd()))
	// Whoever had it before may have read or written it.
	if _, err := lock.Seek(0, 0); err != nil {
		return nil, errs.Wrap("take over container", id.Short(), err)
	}
	r := readRecord(lock)
	x := &Container{Spec: &spec.Container{ID: id, Name: r.Name}, dirs: dirs, lock: &Lock{file: lock, path: path}, groups: r.Groups}
	c, err := ReadSpec(dirs, id)
	if err != nil {
		return x, err
	}
	x.Spec = c
	return x, nil
}

// Groups is the container's cgroup directories, as its record says.
func (x *Container) Groups() []string { return x.groups }

// Lock is the open file that has the lock, for a child to inherit.
func (x *Container) Lock() *os.File { return x.lock.file }

// Disown forgets a lock that a child has inherited. The record stays: the child's.
func (x *Container) Disown() { x.Abandon() }

// Discard removes a container that was made and not started, with the record.
func (x *Container) Discard() error {
	if err := ForgetRun(x.dirs, x.Spec.ID); err != nil {
		return err
	}
	err := underDir(x.dirs, x.Spec.ID, func() error {
		if c, err := ReadSpec(x.dirs, x.Spec.ID); err == nil {
			x.Spec.Name = c.Name // it may have been renamed since we read it
		}
		return takeAway(x.dirs, x.Dir())
	})
	if err != nil && !Gone(err) {
		x.Abandon()
		return err
	}
	return x.Remove()
}

// ForgetRun removes what the keeper of a container had. The orders go first: without them
// nobody adopts the container, who would find a part of the rest.
func ForgetRun(dirs Dirs, id spec.ContainerID) error {
	dir := KeepDir(dirs, id)
	if err := os.Remove(filepath.Join(dir, "orders")); err != nil && !missing(err) {
		return err
	}
	return os.RemoveAll(dir)
}

// Edit changes the description of a container, which may be running: do gets a fresh copy,
// which replaces spec.json if it returns no error. Edits wait for each other.
func Edit(dirs Dirs, id spec.ContainerID, do func(*spec.Container) error) error {
	err := underDir(dirs, id, func() error {
		c, err := ReadSpec(dirs, id)
		if err != nil {
			return err
		}
		if err := do(c); err != nil {
			return err
		}
		return (&Container{Spec: c, dirs: dirs}).Save()
	})
	if _, serr := os.Stat(Dir(dirs, id)); err != nil && Gone(serr) { // removed meanwhile
		return noContainer(id.Short())
	}
	return err
}

func underDir(dirs Dirs, id spec.ContainerID, do func() error) error {
	f, err := os.Open(Dir(dirs, id))
	if err != nil {
		return errs.Wrap("open container", id.Short(), err)
	}
	defer f.Close()
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return errs.Wrap("lock container", id.Short(), err)
	}
	return do()
}

// Rename gives a container another name. Between two steps it has both; a power cut may
// leave the old one, which then leads to it as well until it is taken by another.
func Rename(dirs Dirs, id spec.ContainerID, name string) error {
	var old string
	err := Edit(dirs, id, func(c *spec.Container) error {
		if old = c.Name; old == name {
			return errs.Newf(errs.Exists, "rename container", name, "it has that name already")
		}
		c.Name = name
		return (&Container{Spec: c, dirs: dirs}).claimName()
	})
	if err != nil {
		return err
	}
	return dropName(dirs, old, id)
}

// Ticks is when a process began, in clock ticks since the boot: the pid and this name it
// for good (proc_pid_stat(5), field 22). 0: there is no such process.
func Ticks(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field is the command in parentheses, which may hold anything.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0
	}
	var n uint64
	for _, c := range fields[19] {
		n = n*10 + uint64(c-'0')
	}
	return n
}

func (s Snapshot) notRunning() error {
	return errs.Newf(errs.NotFound, "", "container "+s.Spec.Name, "it is not running").WithHint("corten start starts it")
}

// Process opens the container's PID 1; an error of kind NotFound says that it is gone.
func (s Snapshot) Process() (*os.File, error) {
	gone := s.notRunning()
	if s.State.Status != Running || s.State.PID == 0 {
		return nil, gone
	}
	fd, err := unix.PidfdOpen(s.State.PID, 0)
	if err == unix.ESRCH {
		return nil, gone
	}
	if err != nil {
		return nil, errs.Wrap("open process of container", s.Spec.Name, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if s.State.StartTicks != 0 && Ticks(s.State.PID) != s.State.StartTicks {
		_ = f.Close()
		return nil, gone
	}
	return f, nil
}

// Gone reports whether an error says that the container does not exist any more.
func Gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// Signal sends a signal to the container's PID 1; an error of kind NotFound says that it is gone.
func (s Snapshot) Signal(sig unix.Signal) error {
	p, err := s.Process()
	if err != nil {
		return err
	}
	defer p.Close()
	if err = unix.PidfdSendSignal(int(p.Fd()), sig, nil, 0); err == unix.ESRCH {
		return s.notRunning()
	}
	return errs.Wrap("signal container", s.Spec.Name, err)
}

// Frozen reports whether the container is surely paused.
func (s Snapshot) Frozen() bool {
	yes, err := cgroup.Group(s.State.Groups).Frozen()
	return err == nil && yes
}
