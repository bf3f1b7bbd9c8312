package kept

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/ending"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// End is the process of a kept container once that has ended and its log is complete: it
// records the end, gives back what the container held, and lets go of it or has it started
// again. Everything here may be done twice, for it may have been killed half-way. The status is
// how the container ended: for systemd, which may have this process for the service's own.
func End(dirs container.Dirs, id spec.ContainerID) (status int, err error) {
	box, err := container.Inherit(dirs, id, os.NewFile(lockFD, "lock"))
	if err != nil {
		return 0, err
	}
	dir := container.KeepDir(dirs, id)
	st, err := container.ReadState(dirs, id)
	if err == nil && st.Status == container.Running {
		err = recordEnd(box, dir, &st)
	}
	if err != nil {
		box.Abandon()
		return 0, err
	}
	if st.Status == container.Restarting && !AskedEnd(dirs, id) {
		return 0, rest(box, dir, st)
	}
	return st.ExitCode, finish(box, st)
}

// AskedEnd reports whether a user has asked for the end of a container that runs.
func AskedEnd(dirs container.Dirs, id spec.ContainerID) bool {
	_, err := os.Stat(filepath.Join(container.KeepDir(dirs, id), "stop"))
	return err == nil
}

// recordEnd gives back what the container held and writes down how it ended.
func recordEnd(box *container.Container, dir string, st *container.State) error {
	ended, err := keeper.ReadEnded(dir)
	if err != nil {
		return err
	}
	exit := ending.Exit{Code: ended.Status, Signal: unix.Signal(ended.Signal)}
	group := cgroup.Group(box.Groups())
	exit.Message = ending.Why(box.Spec.Resources, group, exit)
	st.OOM = exit.OOM()
	if ended.Unknown {
		exit.Message = "how it ended is not known: its keeper was killed, and this kernel tells nobody else"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := ending.LeaveGroup(ctx, box.Spec, group); err != nil {
		return err
	}
	dirs := box.Dirs()
	if box.Spec.Connected() {
		if err := draft.Disconnect(ctx, draft.NetDirs(dirs), box.Spec.ID); err != nil {
			return err
		}
	}
	if err := container.ReleaseAllIDs(dirs, box.Spec.ID); err != nil {
		return err
	}
	finished := time.Unix(0, ended.Time)
	ran := finished.Sub(st.Started)
	st.PID, st.StartTicks, st.Groups = 0, 0, nil
	st.Finished, st.ExitCode, st.Message, st.Stopped = finished, exit.Code, exit.Message, AskedEnd(box.Dirs(), box.Spec.ID)
	st.Status = container.Exited
	if again(box.Spec.Life.Restart, *st) {
		st.Status = container.Restarting
		if ran > steady {
			st.Attempts = 0
		}
		st.Attempts++
		st.Restarts++
	}
	if err := box.SetState(*st); err != nil {
		return err
	}
	if st.OOM {
		events.Tell(dirs.Root, box.Spec, "oom", nil)
	}
	events.Tell(dirs.Root, box.Spec, "die", map[string]string{"exitCode": strconv.Itoa(exit.Code)})
	return nil
}

// steady is how long a container runs before it counts as started: the next restart then
// comes soon again. Docker's is the same.
const steady = 10 * time.Second

// again is whether the policy has a container started again that has just ended.
func again(r spec.Restart, st container.State) bool {
	switch {
	case st.Stopped:
		return false
	case r.Policy == spec.RestartAlways, r.Policy == spec.RestartUnlessStopped:
		return true
	case r.Policy == spec.RestartOnFailure:
		return st.ExitCode != 0 && (r.Max == 0 || st.Restarts < r.Max)
	}
	return false
}

// backOff is the pause before a start: 100 ms, doubled each time that the container did not
// run for long, at most a minute.
func backOff(attempts int) time.Duration {
	return min(100*time.Millisecond<<min(attempts-1, 20), time.Minute)
}

// rest becomes the process that waits for the next start.
func rest(box *container.Container, dir string, st container.State) error {
	if err := keeper.WriteRest(dir, st.Finished.Add(backOff(st.Attempts)).UnixNano()); err != nil {
		box.Abandon()
		return err
	}
	program, err := programs.Find("corten-keeper")
	if err != nil {
		return err
	}
	if err := pass(box.Lock()); err != nil {
		return errs.Wrap("pass the lock to", program, err)
	}
	return keeper.Become(program, "rest", box.Dirs().Root, box.Dirs().Run, string(box.Spec.ID))
}

// finish lets go of a container that will not be started again by itself.
func finish(box *container.Container, st container.State) error {
	var err error
	if st.Status != container.Exited { // stopped while it waited for its next start
		st.Status, st.Stopped = container.Exited, true
		err = box.SetState(st)
	}
	if err == nil {
		err = container.ForgetRun(box.Dirs(), box.Spec.ID)
	}
	if err != nil {
		box.Abandon()
		return err
	}
	if !box.Spec.Life.Remove {
		ending.CompressLog(box.Dirs(), box.Spec)
		return box.Unlock()
	}
	return ending.Destroy(box, true)
}
