// Package life is what becomes of the containers of OCI bundles: they are created, started, entered,
// frozen, killed and deleted, each by a command of its own.
//
// Create has a process do all of a plan but its exec; it then waits for a byte from a FIFO in the
// container's folder, and needs nobody. Before that it ends with the command that creates it. A
// creation that was cut short leaves a folder without a process, and control groups that state.json tells
// of, or that are empty: the next create of that id or a delete clears them away.
package life

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
)

// Request is a container to be created.
type Request struct {
	Root     string // --root
	ID       string
	Bundle   string
	Console  string     // the socket that takes the terminal; empty: none
	PIDFile  string     // empty: none
	Passed   []*os.File // descriptors 3 and up of the command
	Env      []string   // of the command, besides what config.json says
	Keyring  bool       // it keeps our session keyring
	Systemd  bool       // systemd makes its control groups
	Rootless bool       // it does without groups that may not be made
	NoPivot  bool       // its root is not changed by pivot_root(2)
	Stays    bool       // who creates it looks after its terminal
	Warn     func(string)
}

// Container is one that was created by this process.
type Container struct {
	Place    record.Place
	State    *record.State
	Terminal *os.File // if no console socket took it

	waiting *launch.Waiting
	hooked  bool // hooks have been run
	unlock  func() error
}

// Create creates a container.
func Create(ctx context.Context, req Request) (*Container, error) {
	place, b, err := prepare(req)
	if err != nil {
		return nil, err
	}
	b.Spec.Security.NoKeyring = req.Keyring
	c := &Container{Place: place}
	if c.unlock, err = place.Lock(); err != nil {
		return nil, err
	}
	err = c.make(ctx, b)
	if err == nil {
		if err = c.launch(ctx, b, req); err != nil {
			c.undo(ctx, req.Warn)
		}
	}
	if err != nil {
		_ = c.unlock()
		return nil, err
	}
	return c, nil
}

// make makes the folder. Since nobody else has the lock, one that says it is being created is of a
// command that was killed.
func (c *Container) make(ctx context.Context, b *bundle.Bundle) error {
	err := c.Place.Make()
	if errs.Is(err, errs.Exists) {
		old, e := c.Place.Load()
		if e != nil || old.PID != 0 {
			return err
		}
		sweepGroups(c.Place, old)
		if e := errors.Join(destroy(ctx, old), os.RemoveAll(c.Place.Dir())); e != nil {
			return e
		}
		err = c.Place.Make()
	}
	b.Spec.ID, b.Spec.Name, b.Spec.Created = spec.ContainerID(c.Place.ID), c.Place.ID, time.Now().UTC()
	c.State = &record.State{Version: b.Version, ID: c.Place.ID, Bundle: b.Dir, Created: b.Spec.Created, Rootfs: b.Spec.Root.Path,
		Besides: record.Besides{Keyring: b.Spec.Security.NoKeyring}, Container: b.Spec, Hooks: b.Hooks, Annotations: b.Annotations}
	if err != nil {
		return err
	}
	return c.Place.Describe(b.Text)
}

// launch starts the process and lets it wait.
func (c *Container) launch(ctx context.Context, b *bundle.Bundle, req Request) error {
	if err := ownNamespaces(b.Spec); err != nil {
		return err
	}
	box := *b.Spec
	box.Process.Env = append(slices.Clip(box.Process.Env), req.Env...)
	in := bundled.Input{Container: &box, NoPivot: req.NoPivot}
	env := launch.Env{Files: map[plan.Handle]*os.File{}}
	groups, err := planGroups(b, c.Place, req)
	defer groups.close()
	if err != nil {
		return err
	}
	groups.show(b.Spec, &in)
	for _, w := range groups.Warnings {
		req.Warn(w)
	}
	share, err := planShare(c.State, &in)
	if err != nil {
		return err
	}
	env.MakeGroups = func() error {
		if err := groups.make(c); err != nil {
			return err
		}
		return share()
	}
	env.Note = func(mount uint64) error {
		c.State.Besides.Mount = mount
		return c.Place.Save(c.State)
	}
	if in.Sources, err = bundle.Sources(b.Spec); err != nil {
		return err
	}
	if in.Filter, err = filter(req.Root, b.Spec.Security); err != nil {
		return err
	}
	if in.Host, err = modules(b.Spec.Security); err != nil {
		return err
	}
	in.FDs = passed(req.Passed, env.Files)
	in.Hooks, in.Inside = words(early(b.Hooks)), words(b.Hooks.CreateContainer)
	env.Hooks = func(pid int, inside bool) error {
		c.hooked = true
		return c.prepareHooks(ctx, pid, inside)
	}
	env.Devices = moveDevices(b.Spec.Networking.Devices)
	env.Listener = toAgent(c.State, record.Creating)
	p, err := bundled.Make(in)
	if err != nil {
		return err
	}
	fifo, err := unix.Open(c.Place.FIFO(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("open", c.Place.FIFO(), err)
	}
	env.Files[plan.StartFIFO] = os.NewFile(uintptr(fifo), "start")
	defer env.Files[plan.StartFIFO].Close()
	if c.waiting, err = launch.Hold(p, env); err != nil {
		return err
	}
	return c.publish(req)
}

// publish tells of the process, and lets it live on.
func (c *Container) publish(req Request) error {
	c.State.PID, c.State.StartTicks = c.waiting.PID, record.Ticks(c.waiting.PID)
	c.Terminal = c.waiting.Terminal
	if req.Console != "" {
		if err := sendTerminal(req.Console, c.Terminal); err != nil {
			return err
		}
		_ = c.Terminal.Close()
		c.Terminal = nil
	}
	if err := c.Place.Save(c.State); err != nil {
		return err
	}
	if err := WritePID(req.PIDFile, c.State.PID); err != nil {
		return err
	}
	return c.waiting.Known()
}

// WritePID writes a number for whoever asked for it.
func WritePID(file string, pid int) error {
	if file == "" {
		return nil
	}
	return errs.Wrap("write", file, disk.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644, disk.Volatile))
}

// undo takes back a creation that did not succeed. Where hooks were run, there are others to undo
// what they did (runtime.md, "Lifecycle").
func (c *Container) undo(ctx context.Context, warn func(string)) {
	if c.waiting != nil {
		c.waiting.Abandon()
	}
	if destroy(ctx, c.State) == nil {
		_ = c.Place.Remove()
	}
	if c.hooked {
		lastHooks(ctx, c.State, warn)
	}
}

// Start starts a container that this process created, and says why its command cannot be executed,
// or which hook failed. The container is to be removed then.
func (c *Container) Start(ctx context.Context) error {
	if err := startHooks(ctx, c.Place, c.State); err != nil {
		return err
	}
	if err := c.Place.Start(); err != nil {
		return err
	}
	if err := c.waiting.Begun(); err != nil {
		return err
	}
	return poststart(ctx, c.State)
}

// Signal sends a signal to the command.
func (c *Container) Signal(sig unix.Signal) error { return c.waiting.Signal(sig) }

// Wait waits for the end of the command.
func (c *Container) Wait() (launch.Status, error) { return c.waiting.Wait() }

// Leave lets go of the container, for other commands to change it.
func (c *Container) Leave() error { return c.unlock() }

// Remove deletes the container, whatever it does.
func (c *Container) Remove(ctx context.Context, warn func(string)) error {
	unlock, err := c.Place.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return remove(ctx, c.Place, c.State, warn)
}

// passed hands descriptors over.
func passed(list []*os.File, files map[plan.Handle]*os.File) (handles []plan.Handle) {
	for i, f := range list {
		h := plan.Handle("fd" + strconv.Itoa(i+3))
		files[h] = f
		handles = append(handles, h)
	}
	return handles
}

// held is the capabilities that this process may hand on.
func held() uint64 {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(head, &data[0]) != nil {
		return 0
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted)
}
