package spec

import (
	"slices"
	"testing"

	"github.com/cortenhq/corten/internal/oci"
)

func TestCompleteCommand(t *testing.T) {
	img := oci.Config{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"serve"}}
	for _, c := range []struct {
		name             string
		entrypoint, args []string
		want             []string
	}{
		{"the image's", nil, nil, []string{"/entry", "-x", "serve"}},
		{"a command replaces the image's", nil, []string{"help"}, []string{"/entry", "-x", "help"}},
		{"an entrypoint replaces both", []string{"sh"}, nil, []string{"sh"}},
		{"an entrypoint with a command", []string{"sh"}, []string{"-c", "id"}, []string{"sh", "-c", "id"}},
		{"an empty entrypoint", []string{}, []string{"id"}, []string{"id"}},
	} {
		x := Container{Process: Process{Entrypoint: c.entrypoint, Args: c.args}}
		x.Complete(img)
		if !slices.Equal(x.Process.Args, c.want) {
			t.Errorf("%s: %q, want %q", c.name, x.Process.Args, c.want)
		}
		again := x
		again.Complete(oci.Config{})
		if !slices.Equal(again.Process.Args, c.want) {
			t.Errorf("%s: completed twice: %q", c.name, again.Process.Args)
		}
	}
}

func TestCompleteRest(t *testing.T) {
	x := Container{
		Process: Process{Env: []string{"A=user", "GONE", "NEW=1"}, User: "7"},
		Mounts:  []Mount{{Type: Tmpfs, Target: "/cache/"}},
		Labels:  map[string]string{"a": "user"},
	}
	x.Complete(oci.Config{
		Env: []string{"PATH=/bin", "A=image", "GONE=1"}, WorkingDir: "srv", User: "web", StopSignal: "SIGQUIT",
		Labels:  map[string]string{"a": "image", "b": "image"},
		Volumes: map[string]struct{}{"/data": {}, "/cache": {}, "relative": {}, "/": {}},
	})
	if want := []string{"PATH=/bin", "A=user", "NEW=1"}; !slices.Equal(x.Process.Env, want) {
		t.Errorf("environment %q, want %q", x.Process.Env, want)
	}
	if x.Process.Cwd != "/srv" || x.Process.User != "7" || x.Life.StopSignal != "SIGQUIT" {
		t.Errorf("cwd %q, user %q, stop signal %q", x.Process.Cwd, x.Process.User, x.Life.StopSignal)
	}
	if x.Labels["a"] != "user" || x.Labels["b"] != "image" {
		t.Errorf("labels %v", x.Labels)
	}
	if len(x.Mounts) != 2 || x.Mounts[1].Target != "/data" || x.Mounts[1].Type != Volume {
		t.Errorf("mounts %+v", x.Mounts)
	}
}
