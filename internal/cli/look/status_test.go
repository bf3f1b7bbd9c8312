package look

import (
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	see := func(word engine.ContainerStatus, code int) engine.Container {
		var c engine.Container
		c.Spec, c.Health = &spec.Container{}, "none"
		c.State.Status, c.State.ExitCode = word, code
		c.State.Started, c.State.Finished = now.Add(-3*time.Minute), now.Add(-2*time.Hour)
		return c
	}
	paused, healthy, starting := see(engine.ContainerRunning, 0), see(engine.ContainerRunning, 0), see(engine.ContainerRunning, 0)
	paused.Paused, healthy.Health, starting.Health = true, "healthy", "starting"
	unseen := see(engine.ContainerExited, 137)
	unseen.State.Finished = time.Time{}
	for want, c := range map[string]engine.Container{
		"Up 3 minutes":                    see(engine.ContainerRunning, 0),
		"Up 3 minutes (Paused)":           paused,
		"Up 3 minutes (healthy)":          healthy,
		"Up 3 minutes (health: starting)": starting,
		"Restarting (1) 2 hours ago":      see(engine.ContainerRestarting, 1),
		"Exited (0) 2 hours ago":          see(engine.ContainerExited, 0),
		"Exited (137) some time ago":      unseen,
		"Created":                         see(engine.ContainerCreated, 0),
	} {
		if got := status(c, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPSLine(t *testing.T) {
	var c engine.Container
	now := time.Now()
	c.Spec = &spec.Container{ID: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Name: "web", Created: now.Add(-90 * time.Second),
		Image: spec.Image{Name: "sha256:00112233445566778899"}, Process: spec.Process{Args: []string{"sh", "-c", "while true; do date; done"}},
		Labels: map[string]string{"b": "2", "a": ""},
		Mounts: []spec.Mount{{Type: spec.Volume, Source: "data", Target: "/d"}, {Type: spec.Bind, Source: "/a/rather/long/path", Target: "/e"}, {Type: spec.Tmpfs, Target: "/t"}}}
	c.State.Status = engine.ContainerCreated
	l := newPSLine(c, false, now)
	if l.ID != "0123456789ab" || l.Image != "001122334455" || l.Command != `"sh -c 'while true; …"` || l.Labels != "a=,b=2" ||
		l.Mounts != "data,/a/rather/long…" || l.LocalVolumes != "1" || l.RunningFor != "About a minute ago" {
		t.Errorf("%+v", l)
	}
	l = newPSLine(c, true, now)
	if len(l.ID) != 64 || l.Image != c.Spec.Image.Name || l.Command != `"sh -c 'while true; do date; done'"` {
		t.Errorf("%+v", l)
	}
}
