// Package ending is what is left to do when a container ends or goes, whoever looked after it:
// to say why it ended, to give back what it held, to remove it. All of it may be done twice, for
// whoever does it may be killed midway, and another one then begins again.
package ending

import (
	"context"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// Exit is how a container ended, in Docker's terms.
type Exit struct {
	Code    int         // 0-255; 128+n for signal n
	Signal  unix.Signal // 0 if it exited by itself
	Message string      // why, if there is more to say: "out of memory: limit 64 MiB"
}

// OOM reports whether the kernel ended it for want of memory.
func (e Exit) OOM() bool {
	return e.Code == 128+int(unix.SIGKILL) && strings.HasPrefix(e.Message, outOfMemory)
}

const outOfMemory = "out of memory: "

// Of puts the status of a process in Docker's terms.
func Of(st launch.Status) Exit {
	if st.Signal != 0 {
		return Exit{Code: 128 + int(st.Signal), Signal: st.Signal}
	}
	return Exit{Code: st.Code}
}

// Why explains an end that a limit caused; empty if none did.
func Why(limits spec.Resources, group cgroup.Group, exit Exit) string {
	if exit.Code == 128+int(unix.SIGKILL) || exit.Code == 1 || exit.Code > 128 {
		if group.OOMKills() > 0 {
			return OutOfMemory(limits)
		}
	}
	if exit.Code != 0 && limits.Pids.Limit != nil {
		if group.PidsRefused() > 0 {
			return "process limit met: limit " + strconv.FormatInt(*limits.Pids.Limit, 10)
		}
	}
	return ""
}

// OutOfMemory says that the kernel ended a process for want of memory, and whose memory that was.
func OutOfMemory(limits spec.Resources) string {
	if limits.Memory.Limit > 0 {
		return outOfMemory + "limit " + sizeWords(limits.Memory.Limit)
	}
	return outOfMemory + "the machine has none left"
}

// LeaveGroup removes a container's control groups. A pid namespace has ended all its processes with its PID
// 1: then there is nobody to kill, as a rule.
func LeaveGroup(ctx context.Context, c *spec.Container, g cgroup.Group) error {
	if len(g) == 0 {
		return nil
	}
	if c.Namespaces.PID.New() {
		brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if g.Remove(brief) == nil {
			return nil
		}
	}
	return g.Destroy(ctx)
}

// GiveBack gives up a container's range of ids, if it has claimed one, and with remove also the
// volumes that were made for it alone.
func GiveBack(box *container.Container, claim uint32, remove bool) error {
	if claim != 0 {
		if err := container.ReleaseIDs(box.Dirs(), box.Spec.ID, claim); err != nil {
			return err
		}
	}
	if !remove {
		return nil
	}
	return volume.RemoveAll(box.Dirs().Root, box.Spec.AnonymousVolumes())
}

// sizeWords writes bytes as people say them: "64 MiB".
func sizeWords(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatInt(n, 10) + " " + units[i]
}

// Destroy removes a container whose lock we have, with volumes also those that were made for it
// alone. The lock is ours no more, whatever becomes of it.
func Destroy(box *container.Container, volumes bool) error {
	root := box.Dirs().Root
	err := volume.Forget(root, string(box.Spec.ID))
	if err == nil && volumes {
		err = volume.RemoveAll(root, box.Spec.AnonymousVolumes())
	}
	if err != nil {
		box.Abandon()
		return err
	}
	if err := box.Discard(); err != nil {
		return err
	}
	events.Tell(root, box.Spec, "destroy", nil)
	return image.Release(root, box.Spec)
}

// Remove removes a container that does not run, and waits a while for whoever is busy with it. One
// that is gone is no error.
func Remove(ctx context.Context, dirs container.Dirs, s container.Snapshot, volumes bool) error {
	box, err := container.Open(dirs, s.Spec, nil, container.Tied)
	if errs.Is(err, errs.Busy) { // it is just ending, or starting
		brief, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if running, werr := container.AwaitIdle(brief, dirs, s.Spec.ID); werr == nil && !running {
			box, err = container.Open(dirs, s.Spec, nil, container.Tied)
		}
	}
	if container.Gone(err) { // --rm, or somebody else
		return nil
	}
	if err != nil {
		return err
	}
	if st, err := container.ReadState(dirs, s.Spec.ID); err == nil && st.Alive() {
		box.Abandon()
		return errs.Newf(errs.Busy, "remove container", s.Spec.Name, "it was started meanwhile")
	}
	return Destroy(box, volumes)
}

// Recall is the status with which a container ended that has been removed since, by the events
// after it had begun.
func Recall(root string, id spec.ContainerID, begun time.Time) (int, error) {
	code, found := 0, false
	err := events.Read(root, events.Query{Since: begun}, func(ev events.Event) error {
		if ev.ID == string(id) && ev.Action == "die" {
			n, err := strconv.Atoi(ev.Attributes["exitCode"])
			code, found = n, err == nil
		}
		return nil
	})
	if err == nil && !found {
		return 0, errs.Newf(errs.NotFound, "wait for container", id.Short(), "it was removed, and how it ended is not known any more")
	}
	return code, err
}
