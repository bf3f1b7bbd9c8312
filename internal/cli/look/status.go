package look

import (
	"strconv"
	"time"

	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

// status says in Docker's words what a container is doing, and since when.
func status(c engine.Container, now time.Time) string {
	st := c.State
	code := "(" + strconv.Itoa(st.ExitCode) + ") "
	switch st.Status {
	case engine.ContainerRunning:
		up := "Up " + show.Age(now.Sub(st.Started))
		switch {
		case c.Paused:
			return up + " (Paused)"
		case c.Health == "starting":
			return up + " (health: starting)"
		case c.Health != "none":
			return up + " (" + string(c.Health) + ")"
		}
		return up
	case engine.ContainerRestarting:
		return "Restarting " + code + ago(st.Finished, now)
	case engine.ContainerExited:
		return "Exited " + code + ago(st.Finished, now)
	}
	return "Created"
}

// ago is how long something has been over; a moment that nobody saw is not told.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "some time ago"
	}
	return show.Age(now.Sub(t)) + " ago"
}
