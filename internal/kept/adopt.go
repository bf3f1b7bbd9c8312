package kept

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// adopt starts a process for a container whose keeper was killed, or whatever the keeper
// had become. The lock is still that one's.
func adopt(dirs container.Dirs, id spec.ContainerID, lock *os.File) error {
	dir := container.KeepDir(dirs, id)
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	program, err := programs.Find("corten-keeper")
	if err != nil {
		return err
	}
	switch {
	case there("rest") && !released(dir):
		return spawn(dirs, dir, passed{lock: lock}, "", program, "rest", dirs.Root, dirs.Run, string(id))
	case there("ended"):
		return spawn(dirs, dir, passed{lock: lock}, "", programs.Corten(), "keep", "end", string(id))
	}
	if err := os.RemoveAll(filepath.Join(dir, "rest")); err != nil {
		return err
	}
	ports := draft.HoldAgain(dirs, id)
	if ports != nil {
		defer ports.Close()
	}
	return spawn(dirs, dir, passed{lock: lock, ports: ports}, "", program, dirs.Root, dirs.Run, string(id))
}

// released reports whether a restart whose process was killed had come so far that the
// container runs: its process executes another program than ours.
func released(dir string) bool {
	o, err := keeper.ReadOrders(dir)
	if err != nil || container.Ticks(o.PID) != o.Start {
		return false
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(o.PID) + "/comm")
	return err == nil && string(comm) != "corten\n"
}

// SignalKeeper sends a signal to the process that looks after a container, once it is a keeper:
// that is only a matter of a moment, and the programs before and after it would die of it.
func SignalKeeper(dirs container.Dirs, id spec.ContainerID, sig unix.Signal) {
	if pid := awaitKeeper(dirs, id); pid != 0 {
		_ = unix.Kill(pid, sig)
	}
}

// awaitKeeper is the pid of the process that looks after a kept container, once it executes a
// keeper and not corten, which does what comes before and after; 0 if it does not come to that.
func awaitKeeper(dirs container.Dirs, id spec.ContainerID) int {
	for range 200 {
		pid := keeperOf(dirs, id)
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if pid == 0 || err != nil {
			return 0
		}
		if strings.HasPrefix(string(comm), "corten-keeper") {
			return pid
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0
}

// keeperOf is the pid of the process that looks after a kept container; 0 if it is not known.
func keeperOf(dirs container.Dirs, id spec.ContainerID) int {
	b, err := os.ReadFile(filepath.Join(container.KeepDir(dirs, id), "keeper"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(b)))
	return pid
}

// Tended does what waits for something that a container's keeper does. Each second it sees to it
// that there is one: it may be killed, and nobody else may come by.
func Tended(dirs container.Dirs, wait func() error) error {
	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = Sweep(dirs) // the next command says what is wrong
			}
		}
	}()
	return wait()
}

// unplugEvery is how long what plugins could not undo is left alone.
const unplugEvery = 10 * time.Second

// unplug has plugins try again what they could not undo at the end of containers. Nobody is kept from
// anything if they cannot now either: corten network inspect says so.
func unplug(dirs container.Dirs) {
	if tried, some := cni.Tried(dirs.Run); !some || time.Since(tried) < unplugEvery {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = network.Unplug(ctx, draft.NetDirs(dirs))
}

// Sweep undoes what containers left whose owner was killed; one that lives on is given somebody
// else who looks after it.
func Sweep(dirs container.Dirs) error {
	if !nest.Inside() {
		if err := network.Mend(draft.NetDirs(dirs)); err != nil {
			return err
		}
		unplug(dirs)
	}
	return container.Sweep(dirs, container.Undo{
		KillGroups: func(groups []string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return cgroup.Group(groups).Destroy(ctx)
		},
		Disconnect: func(id spec.ContainerID) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return draft.Disconnect(ctx, draft.NetDirs(dirs), id)
		},
		RemoveVolumes: func(maker spec.ContainerID, names []string) error {
			return errors.Join(volume.Forget(dirs.Root, string(maker)), volume.RemoveAll(dirs.Root, names))
		},
		Adopt: func(id spec.ContainerID, lock *os.File) error { return adopt(dirs, id, lock) },
	})
}
