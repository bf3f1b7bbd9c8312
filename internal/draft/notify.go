package draft

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// Here is what a container is given by the service manager that started it, and has to tell it:
// sd_listen_fds(3) and sd_notify(3).

// notifyTarget is where a container finds the socket that it notifies.
const notifyTarget = "/run/corten/notify"

// notifies reports whether the container is to have a socket of its own.
func (d *Draft) notifies() bool {
	return d.Spec.Life.Notify == spec.NotifyContainer && d.Site.Notify != ""
}

// Listen makes the socket that the container notifies, so that it is there before the container;
// nil if it has none.
func (d *Draft) Listen() (*os.File, error) {
	if !d.notifies() {
		return nil, nil
	}
	dir := container.KeepDir(d.Site.Dirs, d.Spec.ID)
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

// serve adds to a plan what the service manager gave, and what it is told.
func (d *Draft) serve(in *decide.Input) {
	if d.notifies() {
		path := filepath.Join(container.KeepDir(d.Site.Dirs, d.Spec.ID), keeper.NotifyName)
		in.Files = append(in.Files, plan.File{Source: plan.Source{Path: path, File: true}, Target: notifyTarget,
			ReadOnly: true, Over: true, What: "the socket that it notifies"})
		in.Env = append(in.Env, "NOTIFY_SOCKET="+notifyTarget)
	}
	for i := range d.Passed.Files {
		in.FDs = append(in.FDs, passedHandle(i))
	}
	if d.Passed.Listen == 0 {
		return
	}
	in.Env = append(in.Env, "LISTEN_FDS="+strconv.Itoa(d.Passed.Listen))
	if d.Spec.Namespaces.PID.New() { // else its number is not known before it exists
		pid := 2
		if d.Spec.Life.NoInit {
			pid = 1
		}
		in.Env = append(in.Env, "LISTEN_PID="+strconv.Itoa(pid))
	}
	if d.Passed.Names != "" {
		in.Env = append(in.Env, "LISTEN_FDNAMES="+d.Passed.Names)
	}
}

// passedHandle is what the plan calls the i-th of the files that are passed on.
func passedHandle(i int) plan.Handle { return plan.Handle("passed" + strconv.Itoa(i)) }
