// Package cgroup puts a container into control groups, so that the kernel limits it, counts
// it and can stop all of it at once.
//
// A group is planned by New from what is asked for and the facts of the host (Detect), then
// made by Plan.Make; the new process is born in it (Group.FD, clone3's CLONE_INTO_CGROUP) or
// joins it by itself (Group.Tasks). Its place is a list of directories (Group.Dirs) that the
// container's state keeps, and by which any later command opens it again (Open) to change
// limits (Update), pause, read, kill and remove it. Nothing is held in memory between.
//
// Cgroup v2 has one hierarchy; v1 has one for each controller or pair of them; a hybrid host has
// controllers in v1 and an almost empty v2. The container is always found by its v2 group where
// there is v2, and joins a v1 hierarchy only for a limit or a count that it needs: each
// costs a directory, a move and a removal. A v1 move is quick (30 us) only when a
// process moves itself through the file "tasks": to move another one, or a whole process through
// cgroup.procs, the kernel first waits until no process anywhere is forking, 8 to 15 ms on an idle
// machine (cgroup_threadgroup_rwsem; self-moves are spared since Linux 5.13).
package cgroup

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Group is a container's group: a directory in each hierarchy that it is part of.
type Group struct {
	dirs []Dir
	fd   int // of the v2 directory, -1 until it is needed
}

// Open is the group that was made with these directories. They need not exist any more.
func Open(dirs []Dir) *Group { return &Group{dirs: dirs, fd: -1} }

// Dirs is what Open takes.
func (g *Group) Dirs() []Dir { return g.dirs }

// Close lets go of the descriptor, not of the group.
func (g *Group) Close() error {
	if g.fd < 0 {
		return nil
	}
	fd := g.fd
	g.fd = -1
	return unix.Close(fd)
}

// Make carries the plan out. If it fails, what it made is gone again, but for the groups above.
func (p Plan) Make() (*Group, error) {
	g := Open(p.Dirs)
	if err := p.make(g); err != nil {
		for _, d := range p.Dirs {
			_ = removeDir(d.Path) // best effort: it was empty, or was never made
		}
		_ = g.Close()
		return nil, err
	}
	return g, nil
}

func (p Plan) make(g *Group) error {
	for _, d := range p.Dirs {
		if err := makeDir(d.Path); err != nil {
			return err
		}
	}
	if err := p.Apply(); err != nil {
		return err
	}
	if p.Filter == nil {
		return nil
	}
	fd, err := g.FD()
	if err != nil {
		return err
	}
	return attachFilter(fd, p.Filter)
}

// makeDir makes a group. One that is there already was left by a start that was cut short,
// and is taken away first, unless processes are in it.
func makeDir(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	switch err {
	case unix.ENOENT:
		if err = makeParents(path.Dir(dir)); err == nil {
			err = unix.Mkdir(dir, 0o755)
		}
	case unix.EEXIST:
		if err = removeDir(dir); err == nil {
			err = unix.Mkdir(dir, 0o755)
		}
	}
	switch err {
	case nil:
		return allowReading(dir)
	case unix.EBUSY:
		return errs.Newf(errs.Busy, "make control group", dir, "it exists, and processes are in it").
			WithHint("their numbers are in " + dir + "/cgroup.procs")
	}
	return errs.New(errs.KindOf(err), "make control group", dir, err)
}

// allowReading undoes the caller's umask: the container reads its own limits.
func allowReading(dir string) error {
	if err := unix.Chmod(dir, 0o755); err != nil {
		return errs.New(errs.KindOf(err), "make control group", dir, err)
	}
	return nil
}

// makeParents makes the groups above, which other containers may be making just now.
func makeParents(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if err == unix.ENOENT && dir != "/" {
		if err = makeParents(path.Dir(dir)); err == nil {
			err = unix.Mkdir(dir, 0o755)
		}
	}
	switch err {
	case nil:
		return unix.Chmod(dir, 0o755)
	case unix.EEXIST:
		return nil
	}
	return err
}

// FD is a descriptor of the v2 directory, for CLONE_INTO_CGROUP (Linux 5.7); -1 if the
// container is in no v2 group. It is the group's until Close.
func (g *Group) FD() (int, error) {
	i := slices.IndexFunc(g.dirs, Dir.isV2)
	if g.fd >= 0 || i < 0 {
		return g.fd, nil
	}
	fd, err := open(g.dirs[i].Path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, errs.New(errs.KindOf(err), "open control group", g.dirs[i].Path, err)
	}
	g.fd = fd
	return fd, nil
}

// Tasks are the files by which a process of one thread joins the v1 groups: it writes "0" to
// each. It can do so whatever user it has become, if the files were opened by root.
func (g *Group) Tasks() []string {
	var files []string
	for _, d := range g.dirs {
		if !d.isV2() {
			files = append(files, d.Path+"/tasks")
		}
	}
	return files
}

// Add moves another process into the group. It is slow; see the package comment.
func (g *Group) Add(pid int) error {
	for _, d := range g.dirs {
		if err := writeFile(d.Path+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return errs.New(errs.KindOf(err), "move process "+strconv.Itoa(pid)+" into control group", d.Path, err)
		}
	}
	return nil
}

// Procs lists the processes of the group and of the groups that the container made in it.
// Those of another pid namespace, which have no number here, are left out.
func (g *Group) Procs() ([]int, error) {
	if len(g.dirs) == 0 {
		return nil, nil
	}
	return procs(g.dirs[0].Path)
}

func procs(dir string) ([]int, error) {
	text, err := readFile(dir + "/cgroup.procs")
	switch {
	case isGone(err):
		return nil, nil
	case err != nil && err != unix.EOPNOTSUPP: // a threaded group: its processes are listed above it
		return nil, errs.New(errs.KindOf(err), "list processes of control group", dir, err)
	}
	var pids []int
	for line := range strings.Lines(text) {
		if pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	for _, sub := range children(dir) {
		more, err := procs(sub)
		if err != nil {
			return nil, err
		}
		pids = append(pids, more...)
	}
	return pids, nil
}

// children lists the groups in a group; none if it is gone.
func children(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var subs []string
	for _, e := range entries {
		if e.IsDir() {
			subs = append(subs, path.Join(dir, e.Name()))
		}
	}
	return subs
}

// Remove removes the group and the groups in it. It waits for processes that are on their
// way out until ctx is done. To remove what is not there is no error.
func (g *Group) Remove(ctx context.Context) error {
	for _, d := range slices.Backward(g.dirs) {
		err := backoff(ctx, func() (bool, error) {
			err := removeDir(d.Path)
			return err != unix.EBUSY, err
		})
		if err == unix.EBUSY {
			pids, _ := procs(d.Path)
			return errs.Newf(errs.Busy, "remove control group", d.Path, strconv.Itoa(len(pids))+" processes are still in it")
		}
		if err != nil {
			return errs.New(errs.KindOf(err), "remove control group", d.Path, err)
		}
	}
	return nil
}

// removeDir removes a group without processes and the groups in it.
func removeDir(dir string) error {
	err := unix.Rmdir(dir)
	if err == unix.EBUSY || err == unix.ENOTEMPTY {
		for _, sub := range children(dir) {
			if err := removeDir(sub); err != nil {
				return err
			}
		}
		err = unix.Rmdir(dir)
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// backoff calls do until it is done or the context is, with growing pauses, and returns what
// do said last: not every state of a group has an event to wait for.
func backoff(ctx context.Context, do func() (done bool, err error)) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		done, err := do()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
