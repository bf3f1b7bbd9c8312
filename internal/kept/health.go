package kept

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/enter"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// health is what the checks of a container have come to. Its JSON is Docker's State.Health.
type health struct {
	Status        container.HealthStatus
	FailingStreak int
	Log           []healthCheck // the last few, the oldest first
}

type healthCheck struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

const (
	healthLogged = 5       // checks
	healthOutput = 4 << 10 // bytes of each
)

// beginHealth writes down that a container which has a health check has just begun.
func beginHealth(dirs container.Dirs, c *spec.Container) error {
	if h := c.Life.Health; h == nil || h.Off {
		return nil
	}
	return writeHealth(dirs, c.ID, health{Status: container.Starting, Log: []healthCheck{}})
}

func writeHealth(dirs container.Dirs, id spec.ContainerID, h health) error {
	path := container.HealthFile(dirs, id)
	b, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	return errs.Wrap("write", path, err)
}

// Probe checks a container's health once, for its keeper, and does what is to be done
// when it turns out bad.
func Probe(ctx context.Context, dirs container.Dirs, id spec.ContainerID) error {
	s, err := container.Load(dirs, id)
	if err != nil || s.State.Status != container.Running || s.Spec.Life.Health == nil || s.Frozen() {
		return err
	}
	b, err := os.ReadFile(container.HealthFile(dirs, id))
	if err != nil {
		return errs.Wrap("read health of container", s.Spec.Name, err)
	}
	var now health
	if err := json.Unmarshal(b, &now); err != nil {
		return errs.Wrap("read health of container", s.Spec.Name, err)
	}
	before := now.Status
	now.take(check(ctx, dirs, s), s)
	if err := writeHealth(dirs, id, now); err != nil || now.Status == before {
		return err
	}
	events.Tell(dirs.Root, s.Spec, "health_status: "+string(now.Status), nil)
	if now.Status != container.Unhealthy {
		return nil
	}
	return onUnhealthy(dirs, s)
}

// check executes the command of the health check.
func check(ctx context.Context, dirs container.Dirs, s container.Snapshot) healthCheck {
	h := s.Spec.Life.Health
	timeout := time.Duration(orElse(h.Timeout, 30*time.Second))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := healthCheck{Start: time.Now()}
	code, output, err := enter.Output(ctx, dirs, s, healthCommand(h.Test), healthOutput)
	c.End, c.ExitCode, c.Output = time.Now(), code, string(output)
	switch {
	case ctx.Err() != nil:
		c.ExitCode, c.Output = -1, c.Output+"the check took longer than "+timeout.String()
	case err != nil:
		c.ExitCode, c.Output = -1, err.Error()
	}
	return c
}

// healthCommand is a check as it is executed.
func healthCommand(test []string) []string {
	if len(test) == 2 && test[0] == "CMD-SHELL" {
		return []string{"/bin/sh", "-c", test[1]}
	}
	return test[1:]
}

// take draws the conclusion from a check: one success makes a container healthy, so many
// failures in a row unhealthy, but for those in the beginning of a container that has not been
// healthy yet.
func (h *health) take(c healthCheck, s container.Snapshot) {
	h.Log = append(h.Log, c)
	h.Log = slices.Clone(h.Log[max(0, len(h.Log)-healthLogged):])
	want := s.Spec.Life.Health
	if c.ExitCode == 0 {
		h.Status, h.FailingStreak = container.Healthy, 0
		return
	}
	if h.Status == container.Starting && c.Start.Before(s.State.Started.Add(want.StartPeriod)) {
		return
	}
	h.FailingStreak++
	retries := want.Retries
	if retries == 0 {
		retries = 3
	}
	if h.FailingStreak >= retries {
		h.Status = container.Unhealthy
	}
}

// onUnhealthy does what the user wants done. It is another process's work: this one is the
// keeper's, which ends with the container.
func onUnhealthy(dirs container.Dirs, s container.Snapshot) error {
	switch s.Spec.Life.Health.OnFailure {
	case "kill":
		return s.Signal(unix.SIGKILL) // a restart policy may start it again
	case "stop", "restart":
		return aside(dirs, s.Spec.Life.Health.OnFailure, string(s.Spec.ID))
	}
	return nil
}

// aside starts a command of ours that nobody waits for.
func aside(dirs container.Dirs, args ...string) error {
	return spawn(dirs, "", passed{}, "", programs.Corten(), args...)
}
