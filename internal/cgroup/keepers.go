package cgroup

import (
	"path"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Delegate gives the group to a user, as the kernel's admin guide has it ("Delegation" in
// cgroup-v2.rst): who has these files makes groups in it and moves processes between them,
// and cannot change the limits of the group itself. Of v1 nothing can be given away safely.
func (g Group) Delegate(uid, gid int) error {
	for _, dir := range g {
		if !isV2(dir) {
			continue
		}
		for _, name := range [...]string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			if err := unix.Chown(path.Join(dir, name), uid, gid); err != nil {
				return errs.New(errs.KindOf(err), "delegate control group", dir, err)
			}
		}
	}
	return nil
}

// keepers is the group for processes that look after containers, so that they do not end with
// the session or the service in which a user started them.
const keepers = DefaultParent + "/keepers"

// OpenKeepers opens the v2 group for keepers, for a process to be created in
// (CLONE_INTO_CGROUP); -1 if there is none.
func OpenKeepers() int {
	for _, mount := range [...]string{"/sys/fs/cgroup/", "/sys/fs/cgroup/unified/"} {
		if !writable(mount, keepers) {
			continue
		}
		if fd, err := open(mount+keepers, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			return fd
		}
	}
	host := Detect()
	if host.V2.Base == "" {
		return -1
	}
	dir := path.Join(host.V2.Mount, host.V2.Base, keepers)
	if err := makeParents(dir); err != nil {
		return -1
	}
	fd, err := open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1
	}
	return fd
}

// EnterKeepers moves the calling thread into the group for keepers of the v1 hierarchy by which
// systemd knows services and sessions, if there is one. An exec of the thread takes the whole
// process there. It is quick because it is only the thread; see the package comment.
func EnterKeepers() {
	const dir = "/sys/fs/cgroup/systemd/" + keepers
	if writeFile(dir+"/tasks", "0") == nil || unix.Access("/sys/fs/cgroup/systemd/tasks", unix.W_OK) != nil {
		return
	}
	if makeParents(dir) == nil {
		_ = writeFile(dir+"/tasks", "0")
	}
}
