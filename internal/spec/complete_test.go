package spec

import (
	"reflect"
	"slices"
	"testing"
	"time"

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

func TestCompleteHealth(t *testing.T) {
	image := func(test ...string) *oci.Healthcheck {
		return &oci.Healthcheck{Test: test, Interval: time.Minute, Retries: 7}
	}
	shell := []string{"CMD-SHELL", "true"}
	for _, c := range []struct {
		name string
		user *Health
		img  oci.Config
		want *Health
	}{
		{"nobody's", nil, oci.Config{}, nil},
		{"the image's", nil, oci.Config{Healthcheck: image(shell...)}, &Health{Test: shell, Interval: time.Minute, Retries: 7}},
		{"the image's is none", nil, oci.Config{Healthcheck: image("NONE")}, nil},
		{"not wanted", &Health{Off: true}, oci.Config{Healthcheck: image(shell...)}, &Health{Off: true}},
		{"one value", &Health{Interval: time.Hour}, oci.Config{Healthcheck: image("CMD", "a", "b")},
			&Health{Test: []string{"CMD", "a", "b"}, Interval: time.Hour, Retries: 7}},
		{"a command over none", &Health{Test: shell, OnFailure: "kill"}, oci.Config{Healthcheck: image("NONE")},
			&Health{Test: shell, Interval: time.Minute, Retries: 7, OnFailure: "kill"}},
		{"values without a command", &Health{Retries: 1}, oci.Config{}, nil},
		{"the image's shell", &Health{Test: shell}, oci.Config{Shell: []string{"/bin/ash", "-c"}},
			&Health{Test: []string{"CMD", "/bin/ash", "-c", "true"}}},
		{"a command of no words", nil, oci.Config{Healthcheck: image("CMD")}, nil},
	} {
		x := Container{Life: Life{Health: c.user}}
		x.Complete(c.img)
		if !reflect.DeepEqual(x.Life.Health, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, x.Life.Health, c.want)
		}
		x.Complete(oci.Config{})
		if !reflect.DeepEqual(x.Life.Health, c.want) {
			t.Errorf("%s: completed twice: %+v", c.name, x.Life.Health)
		}
	}
}

func TestCompleteExpose(t *testing.T) {
	ports := func(list ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, p := range list {
			m[p] = struct{}{}
		}
		return m
	}
	for _, c := range []struct {
		user  []Service
		image map[string]struct{}
		want  []Service
	}{
		{nil, nil, nil},
		{nil, ports("80/tcp", "443", "53/UDP", "9/sctp"), []Service{{SCTP, 9}, {UDP, 53}, {TCP, 80}, {TCP, 443}}},
		{[]Service{{TCP, 80}, {UDP, 80}}, ports("80/tcp", "22/tcp"), []Service{{TCP, 22}, {TCP, 80}, {UDP, 80}}},
		{[]Service{{TCP, 1}}, ports("", "0/tcp", "x/tcp", "65536", "80/icmp", "-1"), []Service{{TCP, 1}}},
	} {
		x := Container{Networking: Networking{Expose: c.user}}
		x.Complete(oci.Config{ExposedPorts: c.image})
		if !slices.Equal(x.Networking.Expose, c.want) {
			t.Errorf("%v with %v: %v, want %v", c.user, c.image, x.Networking.Expose, c.want)
		}
	}
}
