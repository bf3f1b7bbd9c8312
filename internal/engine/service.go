package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Here is what a container has to do with the service manager that started it: sd_notify(3)
// and sd_listen_fds(3).

// notifyTarget is where a container finds the socket that it notifies.
const notifyTarget = "/run/corten/notify"

// Passed is descriptors of the caller that the command gets as 3 and up.
type Passed struct {
	Files  []*os.File
	Listen int    // how many of them, the first ones, are sockets of systemd's socket activation
	Names  string // of those, as in LISTEN_FDNAMES
}

// herald passes on what a container says to the service manager of the process that runs it,
// since systemd listens only to processes of the service.
type herald struct {
	socket *os.File
	to     string      // NOTIFY_SOCKET
	over   atomic.Bool // what is there is all there is
	done   chan struct{}
}

// notifies reports whether the container is to have a socket of its own.
func (d *draft) notifies() bool {
	return d.c.Life.Notify == spec.NotifyContainer && d.e.cfg.Notify != ""
}

// listen makes the container's socket, so that it is there before the container.
func (d *draft) listen() (*os.File, error) {
	if !d.notifies() {
		return nil, nil
	}
	dir := container.KeepDir(d.e.dirs(), d.c.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.Wrap("make folder", dir, err)
	}
	fd, err := keeper.ListenNotify(dir)
	if err != nil {
		return nil, err
	}
	_ = unix.SetNonblock(fd, false)
	return os.NewFile(uintptr(fd), "notify"), nil
}

// herald begins to listen for a container in the foreground; nil if there is nobody to tell.
func (d *draft) herald() (*herald, error) {
	socket, err := d.listen()
	if socket == nil {
		return nil, err
	}
	return &herald{socket: socket, to: d.e.cfg.Notify, done: make(chan struct{})}, nil
}

// start passes on until end.
func (h *herald) start() {
	if h == nil {
		return
	}
	fd := int(h.socket.Fd())
	go func() {
		defer close(h.done)
		b := make([]byte, 4096) // systemd takes no more
		for {
			// Descriptors that come along are dropped by the kernel.
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_TRUNC)
			switch {
			case err == unix.EINTR:
			case err != nil || n == 0 && h.over.Load():
				return
			case n > 0 && n <= len(b):
				keeper.Notify(h.to, keeper.Allowed(string(b[:n])))
			}
		}
	}()
}

// end passes on what has come so far, and removes the socket.
func (h *herald) end(dir string) {
	if h == nil {
		return
	}
	h.over.Store(true)
	_ = unix.Shutdown(int(h.socket.Fd()), unix.SHUT_RD) // a read then ends with what is there
	<-h.done
	h.drop(dir)
}

func (h *herald) drop(dir string) {
	if h == nil {
		return
	}
	_ = h.socket.Close()
	_ = os.RemoveAll(dir)
}

// serve adds to a plan what the service manager gave, and what it is told.
func (d *draft) serve(in *plan.Input) {
	if d.notifies() {
		path := filepath.Join(container.KeepDir(d.e.dirs(), d.c.ID), keeper.NotifyName)
		in.Files = append(in.Files, plan.File{Source: plan.Source{Path: path, File: true}, Target: notifyTarget,
			ReadOnly: true, Over: true, What: "the socket that it notifies"})
		in.Env = append(in.Env, "NOTIFY_SOCKET="+notifyTarget)
	}
	for i := range d.passed.Files {
		in.FDs = append(in.FDs, passedHandle(i))
	}
	if d.passed.Listen == 0 {
		return
	}
	in.Env = append(in.Env, "LISTEN_FDS="+strconv.Itoa(d.passed.Listen))
	if fresh(d.c.Namespaces.PID) { // else its number is not known before it exists
		pid := 2
		if d.c.Life.NoInit {
			pid = 1
		}
		in.Env = append(in.Env, "LISTEN_PID="+strconv.Itoa(pid))
	}
	if d.passed.Names != "" {
		in.Env = append(in.Env, "LISTEN_FDNAMES="+d.passed.Names)
	}
}

func passedHandle(i int) plan.Handle { return plan.Handle("passed" + strconv.Itoa(i)) }

// ready tells the service manager that the command runs, if that is for us to tell.
func (d *draft) ready() {
	if d.c.Life.Notify == spec.NotifyKeeper && d.e.cfg.Notify != "" {
		keeper.Notify(d.e.cfg.Notify, "READY=1")
	}
}

// announce makes this process, which is about to be the keeper, the service's main one. The
// manager has to know before the one that it has started may end.
func (e *Engine) announce(c *spec.Container) {
	o := e.notifyOrders(c)
	s := "MAINPID=" + strconv.Itoa(os.Getpid())
	switch o.Mode {
	case "":
		return
	case string(spec.NotifyKeeper):
		s += "\nREADY=1"
	}
	keeper.Notify(o.Socket, s)
}

// notifyOrders is what the keeper has to know of it.
func (e *Engine) notifyOrders(c *spec.Container) keeper.NotifyOrders {
	if c.Life.Notify == spec.NotifyIgnore || e.cfg.Notify == "" {
		return keeper.NotifyOrders{}
	}
	return keeper.NotifyOrders{Mode: string(c.Life.Notify), Socket: e.cfg.Notify}
}

// checkSystemd refuses to start systemd where it cannot run. Other programs that are called
// init may do without control groups.
func (d *draft) checkSystemd() error {
	if d.host.V1 == nil || !d.c.IsSystemd() || filepath.Base(d.c.Process.Args[0]) != "systemd" {
		return nil
	}
	return errs.Newf(errs.Unsupported, "start systemd in container", d.c.Name, "it needs cgroup v2, and this host has its controllers in cgroup v1").
		WithHint("boot the host with systemd.unified_cgroup_hierarchy=1, or say --systemd false to start it as any other program")
}
