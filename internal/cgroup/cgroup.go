// Package cgroup puts a container into control groups, so that the kernel limits it, counts
// it and can stop all of it at once.
//
// A group is planned by New from what is asked for and the facts of the host (Detect), then
// made by Plan.Make; the new process is born in it (Plan.V2, clone3's CLONE_INTO_CGROUP) or
// enters it by itself (Plan.Enter). It is known by its directories: the container's state
// keeps them, and any later command that has them changes the limits (Update), and joins,
// freezes, reads, kills and removes the group. Nothing is held in memory between.
//
// Cgroup v2 has one hierarchy; v1 has one for each controller or pair of them; a hybrid host
// has controllers in v1 and an almost empty v2. The container is always found by its v2 group
// where there is v2, and joins a v1 hierarchy only for a limit or a count that it needs: each
// costs a directory, a move and a removal. A v1 move is quick (40 us) only when a process of
// one thread moves itself through the file "tasks". To move another one, or a whole process
// through cgroup.procs, the kernel first waits until no process anywhere is forking: 8 to
// 15 ms on an idle machine (cgroup_threadgroup_rwsem; self-moves are spared since Linux 5.5).
package cgroup

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Group is a container's group: its directory in each hierarchy that it is part of. The
// first is the one by which the container is found, frozen and killed.
type Group []string

// Make carries the plan out. If it fails, what it made is gone again, but for the groups above.
func (p Plan) Make() error {
	for i, dir := range p.Group {
		if err := makeDir(dir); err != nil {
			p.Group[:i].discard()
			return err
		}
	}
	err := p.Apply()
	if err == nil {
		err = p.Guard()
	}
	if err != nil {
		p.Group.discard()
	}
	return err
}

// Join is Make for groups that somebody else has made where he has some, all but Guard. What is there
// stays, and it may be done again where he has removed some.
func (p Plan) Join() error {
	for _, dir := range p.Group {
		if err := makeParents(dir); err != nil {
			return errs.New(errs.KindOf(err), "make control group", dir, err)
		}
	}
	return p.Apply()
}

// Allowed reports whether the caller may make the groups, as far as can be told before.
func (p Plan) Allowed() bool {
	for _, dir := range p.Group {
		above := path.Dir(dir)
		for ; above != "/"; above = path.Dir(above) {
			if err := unix.Faccessat(unix.AT_FDCWD, above, unix.W_OK, unix.AT_EACCESS); err != unix.ENOENT {
				break
			}
		}
		if unix.Faccessat(unix.AT_FDCWD, above, unix.W_OK, unix.AT_EACCESS) != nil {
			return false
		}
	}
	return true
}

// Guard attaches the device filter.
func (p Plan) Guard() error {
	if p.Filter.Rules == nil {
		return nil
	}
	return p.Filter.attach()
}

// discard removes groups that nothing was put into yet.
func (g Group) discard() {
	for _, dir := range g {
		_ = unix.Rmdir(dir)
	}
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
		if pids, e := procs(dir); len(pids) == 0 && e == nil {
			if err = removeDir(dir); err == nil {
				err = unix.Mkdir(dir, 0o755)
			}
		}
	}
	if err == nil {
		// The container reads its own limits, whatever the caller's umask.
		err = unix.Chmod(dir, 0o755)
	}
	if err == nil {
		return nil
	}
	e := errs.New(errs.KindOf(err), "make control group", dir, err)
	switch err {
	case unix.EEXIST, unix.EBUSY:
		e.Kind = errs.Busy
		e.Err = errors.New("it exists, and processes are in it")
		e.Hint = "their numbers are in " + dir + "/cgroup.procs"
	case unix.EACCES, unix.EPERM, unix.EROFS:
		e.Kind = errs.Denied
		e.Hint = DelegateHint
	}
	return e
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

// Enter says how another process gets into the group, as Plan.V2 and Plan.Enter do.
func (g Group) Enter() (v2 string, tasks []string) {
	for _, dir := range g {
		if isV2(dir) {
			v2 = dir
		} else {
			tasks = append(tasks, dir+"/tasks")
		}
	}
	return v2, tasks
}

// isV2 tells by a file that every v2 group below the root has had since Linux 4.5.
func isV2(dir string) bool { return unix.Access(dir+"/cgroup.events", unix.F_OK) == nil }

// Add moves another process into the group. It is slow; see the package comment.
func (g Group) Add(pid int) error {
	for _, dir := range g {
		if err := writeFile(dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return errs.New(errs.KindOf(err), "move process "+strconv.Itoa(pid)+" into control group", dir, err)
		}
	}
	return nil
}

// Procs lists the processes of the group and of the groups that the container made in it.
// Those of another pid namespace, which have no number here, are left out.
func (g Group) Procs() ([]int, error) {
	if len(g) == 0 {
		return nil, nil
	}
	return procs(g[0])
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
func (g Group) Remove(ctx context.Context) error {
	for _, dir := range slices.Backward(g) {
		err := backoff(ctx, func() (bool, error) {
			err := removeDir(dir)
			return err != unix.EBUSY, err
		})
		if err == unix.EBUSY {
			pids, _ := procs(dir)
			return errs.Newf(errs.Busy, "remove control group", dir, strconv.Itoa(len(pids))+" processes are still in it")
		}
		if err != nil {
			return errs.New(errs.KindOf(err), "remove control group", dir, err)
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

// Leave moves a process out of the group, to the tops of its hierarchies: to look after the group without counting as
// part of it.
func (g Group) Leave(pid int) error {
	for _, dir := range g {
		for up := path.Dir(dir); unix.Access(up+"/cgroup.procs", unix.F_OK) == nil; up = path.Dir(up) {
			dir = up
		}
		if err := writeFile(dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return errs.New(errs.KindOf(err), "move process "+strconv.Itoa(pid)+" into control group", dir, err)
		}
	}
	return nil
}
