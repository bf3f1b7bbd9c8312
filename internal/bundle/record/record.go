// Package record keeps what corten-oci knows of its containers: a folder for each, below the folder
// that --root names, with state.json (FORMATS.md), and beside it a lock.
//
// A container's folder is made when it is created and goes when it is deleted. What state.json says was
// true when it was written; whether the process lives, waits, is frozen or has ended is looked up anew.
package record

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/resctrl"
	"github.com/cortenhq/corten/internal/spec"
)

// Format is that of state.json. A reader refuses a higher one.
const Format = 2

// State is state.json.
type State struct {
	Format      int               `json:"format"`
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Created     time.Time         `json:"created"`
	PID         int               `json:"pid,omitempty"` // 0: it is being created
	StartTicks  uint64            `json:"startTicks,omitempty"`
	Groups      cgroup.Group      `json:"groups,omitempty"`
	Scope       string            `json:"scope,omitempty"` // the unit of systemd that they are, if they are one
	Share       resctrl.Share     `json:"share,omitzero"`
	Rootfs      string            `json:"rootfs"`
	Besides     Besides           `json:"besides,omitzero"`
	Hooks       specs.Hooks       `json:"hooks,omitzero"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// Container is what config.json says, for who has read that: most verbs do without, and the decoder
	// takes half a millisecond to learn the types.
	Container *spec.Container `json:"-"`
}

// Besides is what holds for a container and config.json does not say.
type Besides struct {
	Keyring bool            `json:"keyring,omitempty"` // it has the session keyring of who created it
	Limits  json.RawMessage `json:"limits,omitempty"`  // as in spec.json, if they were changed
	Mount   uint64          `json:"mount,omitempty"`   // kernel.MountID of its root, if that is mounted for all of the host to see
}

// Status is what a container is doing, in the specification's words (runtime.md, "State"), and paused.
type Status string

// The statuses.
const (
	Creating Status = "creating"
	Created  Status = "created"
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
)

// Place is the folder of a container, which may be there or not.
type Place struct {
	Root string // --root
	ID   string
}

// longestID leaves room for what is added to names of files and groups, in the 255 bytes of a name.
const longestID = 240

// Of checks an id. It is a file name.
func Of(root, id string) (Place, error) {
	bad := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_+-.", r))
	}
	if id == "" || id == "." || id == ".." || len(id) > longestID || strings.ContainsFunc(id, bad) {
		return Place{}, errs.Newf(errs.Invalid, "use container id", strconv.Quote(id), "it is none").
			WithHint("letters, digits and _+-. make an id, at most " + strconv.Itoa(longestID))
	}
	return Place{root, id}, nil
}

// Dir is the folder.
func (p Place) Dir() string   { return filepath.Join(p.Root, p.ID) }
func (p Place) state() string { return filepath.Join(p.Dir(), "state.json") }

// config is config.json as it was when the container was created.
func (p Place) config() string { return filepath.Join(p.Dir(), "config.json") }

// FIFO is what a created container waits for a byte from.
func (p Place) FIFO() string { return filepath.Join(p.Dir(), "start") }

// lock is a name that no id is.
func (p Place) lock() string { return filepath.Join(p.Root, p.ID+",lock") }

// Lock keeps others from changing the container, or waits for them.
func (p Place) Lock() (unlock func() error, err error) { return disk.Lock(p.lock()) }

// Make makes the folder, for whoever has the lock.
func (p Place) Make() error {
	err := os.Mkdir(p.Dir(), 0o711)
	if os.IsExist(err) {
		return errs.New(errs.Exists, "create container", p.ID, nil).WithHint("choose another id, or corten-oci delete it")
	}
	if err == nil {
		err = unix.Mkfifo(p.FIFO(), 0o600)
	}
	return errs.Wrap("create container", p.ID, err)
}

// Save writes state.json.
func (p Place) Save(s *State) error {
	s.Format = Format
	text, err := json.Marshal(s)
	if err != nil {
		return errs.New(errs.Internal, "write state of", p.ID, err)
	}
	return disk.WriteFile(p.state(), text, 0o600, disk.Volatile)
}

// Describe writes what the container was created from.
func (p Place) Describe(config []byte) error {
	return errs.Wrap("write description of", p.ID, os.WriteFile(p.config(), config, 0o600))
}

// Description is what the container was created from.
func (p Place) Description() ([]byte, error) { return disk.Read(p.config()) }

// There is an error if the container is not. A lock alone was left by who was killed before it made the
// container, and is removed.
func (p Place) There() error {
	if _, err := os.Stat(p.Dir()); err != nil {
		p.dropLock()
		return errs.Newf(errs.NotFound, "find container", p.ID, "container does not exist").WithHint("corten-oci list shows those of this --root")
	}
	return nil
}

func (p Place) dropLock() {
	if _, err := os.Stat(p.lock()); err != nil {
		return
	}
	f, err := disk.OpenLocked(p.lock(), os.O_RDWR, disk.TryExclusive)
	if err != nil { // who creates or deletes the container just now has it
		return
	}
	defer f.Close()
	if _, err := os.Stat(p.Dir()); os.IsNotExist(err) {
		_ = os.Remove(p.lock())
	}
}

// Load reads state.json. Of a container whose creation was cut short before it there is none.
func (p Place) Load() (*State, error) {
	text, err := disk.Read(p.state())
	if errs.Is(err, errs.NotFound) {
		if err := p.There(); err != nil {
			return nil, err
		}
		return &State{Format: Format, ID: p.ID}, nil
	}
	if err != nil {
		return nil, err
	}
	s := &State{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, errs.New(errs.Corrupt, "read", p.state(), err)
	}
	if s.Format != Format {
		return nil, errs.Newf(errs.Unsupported, "read", p.state(), "it was written by another version of corten-oci").
			WithHint("have that one delete the container")
	}
	return s, nil
}

// Status looks up what the container is doing.
func (p Place) Status(s *State) (Status, error) {
	if s.PID == 0 {
		return Creating, nil
	}
	if !s.Alive() {
		return Stopped, nil
	}
	frozen, err := s.Groups.Frozen()
	switch {
	case frozen || err != nil:
		return Paused, err
	case p.Waits():
		return Created, nil
	}
	return Running, nil
}

// Waits reports whether the process waits to be started: then it has the FIFO open.
func (p Place) Waits() bool {
	fd, err := unix.Open(p.FIFO(), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// Start lets the process go on, and returns when it has executed its command or ended: then nobody
// has the FIFO open for reading any more.
func (p Place) Start() error {
	fd, err := unix.Open(p.FIFO(), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("start container", p.ID, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		return errs.Wrap("start container", p.ID, err)
	}
	fds := []unix.PollFd{{Fd: int32(fd)}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			break
		}
	}
	return errs.Wrap("start container", p.ID, unix.Unlink(p.FIFO()))
}

// Remove removes the folder, and the lock, which the caller has.
func (p Place) Remove() error {
	if err := os.RemoveAll(p.Dir()); err != nil {
		return errs.Wrap("remove", p.Dir(), err)
	}
	return errs.Wrap("remove", p.lock(), os.Remove(p.lock()))
}

// List is the containers below a folder, by id.
func List(root string) ([]Place, error) {
	entries, err := os.ReadDir(root)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("list containers", root, err)
	}
	var list []Place
	for _, e := range entries {
		if p, err := Of(root, e.Name()); err == nil && e.IsDir() {
			list = append(list, p)
		}
	}
	return list, nil
}

// Alive reports whether the container's first process is there and has not ended.
func (s *State) Alive() bool {
	ticks, state := stat(s.PID)
	return ticks != 0 && ticks == s.StartTicks && state != 'Z' && state != 'X'
}

// Ticks is when a process began, in ticks since boot; 0 if it is gone.
func Ticks(pid int) uint64 {
	ticks, _ := stat(pid)
	return ticks
}

// stat reads the state and field 22 of /proc/PID/stat. The name in it, in brackets, may be anything.
func stat(pid int) (ticks uint64, state byte) {
	text, err := disk.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 20 {
		return 0, 0
	}
	ticks, _ = strconv.ParseUint(f[19], 10, 64)
	return ticks, f[0][0]
}

// Open opens the container's first process, whatever becomes of its number.
func (s *State) Open() (*os.File, error) {
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return nil, err
	}
	if !s.Alive() {
		_ = unix.Close(fd)
		return nil, unix.ESRCH
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}
