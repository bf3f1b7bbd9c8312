package life

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
)

// Restoring is a container to be made of images.
type Restoring struct {
	Request
	Imaging
	Labels criu.Labels
}

// Restored is one that was.
type Restored struct {
	*launch.Process
	c *Container
}

// Remove deletes the container, whatever it does.
func (r *Restored) Remove(ctx context.Context, warn func(string)) error { return r.c.Remove(ctx, warn) }

// Restore makes a container of images. It runs then, as a child of this process.
func Restore(ctx context.Context, r Restoring) (*Restored, error) {
	place, b, err := prepare(r.Request)
	if err != nil {
		return nil, err
	}
	if err := imageable(b.Spec); err != nil {
		return nil, err
	}
	if nest.Owner() >= 0 {
		return nil, notOrdinary()
	}
	doc, err := loadImaged(r.Images)
	if err != nil {
		return nil, err
	}
	c := &Container{Place: place}
	if c.unlock, err = place.Lock(); err != nil {
		return nil, err
	}
	defer func() { _ = c.unlock() }()
	if err := c.make(ctx, b); err != nil {
		return nil, err
	}
	x := &restorer{Restoring: r, c: c, b: b, doc: doc, ctx: ctx}
	if err = x.restore(); err == nil {
		err = poststart(ctx, c.State)
	}
	if err == nil {
		return &Restored{x.proc, c}, nil
	}
	if x.proc != nil {
		_ = x.proc.Signal(unix.SIGKILL)
		_, _ = x.proc.Wait()
		_ = x.proc.Close()
	}
	c.undo(ctx, r.Warn)
	return nil, errs.Wrap("restore container", r.ID, err)
}

// restorer is a restore at work.
type restorer struct {
	Restoring
	c   *Container
	b   *bundle.Bundle
	doc imaged
	ctx context.Context

	tree     *launch.Tree
	groups   *groups
	share    func() error // makes its share of caches
	proc     *launch.Process
	terminal *os.File
}

func (x *restorer) restore() error {
	p, err := x.plan()
	defer x.groups.close()
	if err == nil {
		err = x.groups.make(x.c)
	}
	if err == nil {
		err = x.share()
	}
	if err != nil {
		return err
	}
	r, closeAll, err := x.request(criu.Restore, restoreLog)
	if err != nil {
		return err
	}
	defer closeAll()
	files, err := x.inherit(&r)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	err = detached.Aside(func() (err error) {
		if x.tree, err = launch.Lay(p, launch.Env{}, nil); err != nil {
			return err
		}
		return x.run(r)
	})
	if err != nil {
		return err
	}
	return errs.Wrap("remove", x.c.Place.FIFO(), os.Remove(x.c.Place.FIFO())) // it waits for nothing
}

// plan is that of a start, whose file systems are mounted.
func (x *restorer) plan() (plan.Plan, error) {
	in := bundled.Input{Container: x.b.Spec}
	var err error
	if x.groups, err = planGroups(x.b, x.c.Place, x.Request); err != nil {
		return plan.Plan{}, err
	}
	x.groups.show(x.b.Spec, &in)
	if x.share, err = planShare(x.c.State, &in); err != nil {
		return plan.Plan{}, err
	}
	for _, w := range x.groups.Warnings {
		x.Warn(w)
	}
	if in.Sources, err = bundle.Sources(x.b.Spec); err != nil {
		return plan.Plan{}, err
	}
	if in.Host, err = modules(x.b.Spec.Security); err != nil {
		return plan.Plan{}, err
	}
	return bundled.Make(in)
}

// run has criu make the processes, on a thread that sees the tree.
func (x *restorer) run(r criu.Request) (err error) {
	r.Root, r.Labels = x.tree.Root, x.Labels
	if r.External, err = criu.Place(x.doc.Mounts, x.place); err != nil {
		return err
	}
	// Not the keyring of who calls us, session-keyring(7). It goes with this thread.
	if _, err := unix.KeyctlJoinSessionKeyring("_ses." + x.ID); err != nil && err != unix.ENOSYS {
		return errs.Wrap("take a new session keyring", "", err)
	}
	if !x.b.Spec.Security.AllowNewPrivs {
		if err := criu.NoNewPrivs(); err != nil {
			return err
		}
	}
	var leave func(pid int) error
	if r.Talk.Attr, leave, err = x.enter(); err != nil {
		return err
	}
	r.Talk.Started, r.Talk.Stage = leave, x.stage
	pid, err := criu.Run(r)
	if err != nil {
		return err
	}
	if x.proc == nil {
		return errs.Newf(errs.Internal, "restore", "", fmt.Sprintf("process %d was not told of", pid))
	}
	return nil
}

// place is where the mounts are that criu does not make.
func (x *restorer) place(f criu.Foreign) (string, error) {
	switch f.Kind {
	case criu.Device:
		return x.tree.Null, nil
	case criu.Empty:
		return x.tree.None, nil
	case criu.Group:
		if dir, ok := x.groups.Group.In(f.Groups); ok {
			return dir, nil
		}
	case criu.Shown:
		if path, ok := x.tree.Find(f.At); ok {
			return path, nil
		}
	}
	return "", errs.Newf(errs.Invalid, "mount", f.At, "the container had something there that its bundle does not name").
		WithHint("add it to mounts in config.json")
}

// inherit is what takes the place of namespaces and files that were not the container's own. The caller closes what
// was opened.
func (x *restorer) inherit(r *criu.Request) (opened []*os.File, err error) {
	for _, n := range []struct {
		name, key string
		ns        spec.Namespace
	}{{"net", x.doc.Net, x.b.Spec.Namespaces.Net}, {"pid", x.doc.PIDs, x.b.Spec.Namespaces.PID}} {
		if n.key == "" && n.ns.Mode != spec.Path {
			continue
		}
		if n.key == "" || n.ns.Mode != spec.Path {
			return opened, errs.Newf(errs.Invalid, "restore "+n.name+" namespace", n.ns.Path, "the container had it to itself, or had not, when it was written").
				WithHint("have config.json name a namespace by path if and only if it did then")
		}
		f, err := os.Open(n.ns.Path)
		if err != nil {
			return opened, errs.Wrap("open namespace", n.ns.Path, err)
		}
		opened = append(opened, f)
		r.Inherit = append(r.Inherit, criu.Inherit{Key: n.key, File: f})
	}
	for i, key := range x.doc.Stdio {
		if key != "" {
			r.Inherit = append(r.Inherit, criu.Inherit{Key: key, File: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}[i]})
		}
	}
	return opened, nil
}

// enter is how criu begins so that what it makes sees the container's control groups as their tops. Itself it is no part
// of the container, and leaves.
func (x *restorer) enter() (attr *syscall.SysProcAttr, leave func(pid int) error, err error) {
	if x.b.Spec.Namespaces.Cgroup.Mode != spec.Private || x.Groups != criu.IgnoreGroups {
		return nil, nil, nil
	}
	return x.groups.Group.Within()
}

// stage is called as criu goes on.
func (x *restorer) stage(stage string, pid int, file *os.File) (err error) {
	switch stage {
	case "setup-namespaces":
		if x.Groups == criu.IgnoreGroups {
			if err := x.groups.Group.Add(pid); err != nil {
				return err
			}
		}
		for _, file := range x.c.State.Share.Enter() {
			if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0); err != nil {
				return errs.Wrap("enter", file, err)
			}
		}
		x.c.hooked = true
		return x.c.prepareHooks(x.ctx, pid, false)
	case "orphan-pts-master":
		return x.give(file)
	case "post-restore": // nothing of the container runs yet
		if x.proc, err = launch.Adopt(pid); err != nil {
			return err
		}
		x.proc.Terminal = x.terminal
		x.c.State.PID, x.c.State.StartTicks = pid, record.Ticks(pid)
		if err := x.c.Place.Save(x.c.State); err != nil {
			return err
		}
		return WritePID(x.PIDFile, pid)
	}
	return nil
}

// give hands the terminal to who wants it.
func (x *restorer) give(terminal *os.File) error {
	if x.Console == "" {
		x.terminal = terminal
		return nil
	}
	defer terminal.Close()
	return sendTerminal(x.Console, terminal)
}

// prepare reads what a container is made from, before anything is.
func prepare(req Request) (record.Place, *bundle.Bundle, error) {
	place, err := record.Of(req.Root, req.ID)
	if err != nil {
		return place, nil, err
	}
	b, err := bundle.Load(req.Bundle, held())
	if err != nil {
		return place, nil, err
	}
	for _, w := range b.Warnings {
		req.Warn(w)
	}
	if err := inNest(&b.Spec.Namespaces.User); err != nil {
		return place, nil, err
	}
	if err := checkConsole(b.Spec.Process.Terminal, req.Console, req.Stays); err != nil {
		return place, nil, err
	}
	if err := os.MkdirAll(req.Root, 0o711); err != nil {
		return place, nil, errs.Wrap("make folder", req.Root, err)
	}
	return place, b, nil
}
