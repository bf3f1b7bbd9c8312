package spec

import (
	"reflect"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/oci"
)

// An image made of a container that was only completed from one is that one.
func TestConfigUndoesComplete(t *testing.T) {
	img := oci.Config{
		User: "app", Env: []string{"A=1", "B=2"}, Entrypoint: []string{"sh", "-c"}, Cmd: []string{"serve"},
		Volumes: map[string]struct{}{"/data": {}}, WorkingDir: "/srv", Labels: map[string]string{"x": "y"}, StopSignal: "SIGINT",
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443": {}, "odd": {}},
		Healthcheck:  &oci.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 2},
	}
	for _, img := range []oci.Config{img, {Cmd: []string{"sh"}}} {
		var c Container
		c.Complete(img)
		if got := c.Config(img); !reflect.DeepEqual(got, img) {
			t.Errorf("got  %+v\nwant %+v", got, img)
		}
	}
}

func TestConfigOfWhatTheUserSaid(t *testing.T) {
	img := oci.Config{Entrypoint: []string{"sh", "-c"}, Cmd: []string{"serve"}, Env: []string{"A=1"}, OnBuild: []string{"RUN x"},
		Healthcheck: &oci.Healthcheck{Test: []string{"CMD", "true"}}}
	var c Container
	c.Process.Args, c.Process.Env, c.Process.Cwd, c.Process.User = []string{"other"}, []string{"A=2", "B=3"}, "/w", "7"
	c.Labels = map[string]string{"l": "m"}
	c.Life.Health = &Health{Off: true}
	c.Networking.Expose = []Service{{TCP, 8080}}
	c.Mounts = []Mount{{Type: Volume, Source: "0123", Target: "/v", Anonymous: true}, {Type: Volume, Source: "named", Target: "/n"}}
	c.Complete(img)
	want := oci.Config{Entrypoint: []string{"sh", "-c"}, Cmd: []string{"other"}, Env: []string{"A=2", "B=3"}, WorkingDir: "/w", User: "7",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Labels: map[string]string{"l": "m"}, Volumes: map[string]struct{}{"/v": {}}, Healthcheck: &oci.Healthcheck{Test: []string{"NONE"}}}
	if got := c.Config(img); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	c = Container{Process: Process{Entrypoint: []string{"env"}, Args: []string{"-0"}}}
	c.Complete(img)
	if got := c.Config(img); !reflect.DeepEqual(got.Entrypoint, []string{"env"}) || !reflect.DeepEqual(got.Cmd, []string{"-0"}) {
		t.Errorf("an entrypoint of the user's: %q %q", got.Entrypoint, got.Cmd)
	}
}
