package spec

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/oci"
)

func anImage(t *rapid.T) oci.Config {
	some := func(name string, values ...string) string { return rapid.SampledFrom(append(values, "")).Draw(t, name) }
	list := func(name string, values ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 0, len(values), rapid.ID).Draw(t, name)
	}
	img := oci.Config{
		Entrypoint: list("entrypoint", "/entry", "-x"), Cmd: list("cmd", "run", "a b"),
		Env:        list("env", "PATH=/bin", "A=1", "B="),
		WorkingDir: some("dir", "/work", "srv", "/"), User: some("user", "app", "1:2"), StopSignal: some("signal", "SIGQUIT", "37"),
		Labels: map[string]string{"team": some("label", "x")}, Volumes: map[string]struct{}{},
	}
	for _, v := range list("volumes", "/data", "/run", "/var/lib") {
		img.Volumes[v] = struct{}{}
	}
	if rapid.Bool().Draw(t, "health") {
		img.Healthcheck = &oci.Healthcheck{Test: []string{"CMD", "/ok"}, Interval: time.Second, Retries: 2}
	}
	return img
}

func aRequest(t *rapid.T) *Container {
	some := func(name string, values ...string) string { return rapid.SampledFrom(append(values, "")).Draw(t, name) }
	c := &Container{}
	c.Process.Args = rapid.SampledFrom([][]string{nil, {"run"}, {"/sbin/init"}, {"sh", "-c", "x"}, {"/entry"}}).Draw(t, "args")
	c.Process.Entrypoint = rapid.SampledFrom([][]string{nil, nil, {}, {"/entry"}, {"/lib/systemd/systemd"}}).Draw(t, "entrypoint")
	if c.Process.Entrypoint != nil && len(c.Process.Args) == 0 { // else nothing is left to run
		c.Process.Args = []string{"y"}
	}
	c.Process.Env = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"A=1", "A=2", "C=3"}), 0, 2, rapid.ID).Draw(t, "own env")
	c.Process.Cwd, c.Process.User = some("own dir", "/work", "/x"), some("own user", "app", "root")
	c.Life.StopSignal = some("own signal", "SIGQUIT", "SIGINT", StopSystemd)
	c.Life.Systemd = Systemd(some("systemd", string(SystemdAlways), string(SystemdNever)))
	c.Labels = map[string]string{"own": some("own label", "y"), "team": "x"}
	for _, target := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"/data", "/run", "/tmp"}), 0, 2, rapid.ID).Draw(t, "mounts") {
		c.Mounts = append(c.Mounts, Mount{Type: Volume, Target: target, Source: some("source", "named")})
	}
	if rapid.Bool().Draw(t, "own health") {
		c.Life.Health = &Health{Interval: 2 * time.Second}
		if rapid.Bool().Draw(t, "check") {
			c.Life.Health.Test = []string{"CMD-SHELL", "true"}
		}
	}
	return c
}

// What Uncomplete leaves is completed to the same again.
func TestUncomplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img, c := anImage(t), aRequest(t)
		c.Complete(img)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again Container
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		again.Uncomplete(img)
		asked := again
		again.Complete(img)
		sorted := cmpopts.SortSlices(func(a, b Mount) bool { return a.Target < b.Target })
		if diff := cmp.Diff(c, &again, cmpopts.EquateEmpty(), sorted); diff != "" {
			t.Fatalf("of the image %+v was left %+v: %s", img, asked, diff)
		}
	})
}
