package container

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// place writes a container as it lies on the disk.
func place(t *testing.T, dirs Dirs, c spec.Container, st State) spec.ContainerID {
	t.Helper()
	c.Version, st.Version = spec.Version, spec.Version
	if c.ID == "" {
		c.ID = NewID()
	}
	dir := Dir(dirs, c.ID)
	for _, d := range []string{filepath.Join(dir, "upper"), filepath.Join(dirs.Root, "names")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, v := range map[string]any{"spec.json": c, "state.json": st} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(string(c.ID), filepath.Join(dirs.Root, "names", c.Name)); err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func TestViews(t *testing.T) {
	dirs := Dirs{t.TempDir(), t.TempDir()}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	place(t, dirs, spec.Container{Name: "web-1", Created: at, Image: spec.Image{Name: "nginx:1"},
		Labels: map[string]string{"tier": "front", "x": ""}, Life: spec.Life{Health: &spec.Health{Test: []string{"CMD", "true"}}}},
		State{Status: Running})
	b := place(t, dirs, spec.Container{Name: "db", Created: at.Add(time.Hour), Image: spec.Image{Name: "pg:1", Config: "sha256:1"},
		Mounts: []spec.Mount{{Type: spec.Volume, Source: "data", Target: "/var/lib"}}}, State{Status: Exited, ExitCode: 3})
	place(t, dirs, spec.Container{Name: "web-2", Created: at.Add(2 * time.Hour), Image: spec.Image{Name: "nginx:1"},
		Labels: map[string]string{"tier": "back"}}, State{Status: Created})
	place(t, dirs, spec.Container{Name: "job", Created: at.Add(3 * time.Hour)}, State{Status: Restarting, ExitCode: 1})
	for _, x := range []struct {
		all     bool
		filters string
		want    string
	}{
		{false, "", "job web-1"},
		{true, "", "job web-2 db web-1"},
		{true, "name=web", "web-2 web-1"},
		{true, "name=^/db$", "db"},
		{true, "name=web name=db", "web-2 db web-1"},
		{true, "id=" + string(b[:12]), "db"},
		{true, "label=tier", "web-2 web-1"},
		{true, "label=tier=front", "web-1"},
		{true, "label=tier label=x", "web-1"},
		{true, "exited=3", "db"},
		{true, "exited=0", ""},
		{false, "status=exited status=created", "web-2 db"},
		{false, "status=running", "web-1"},
		{true, "status=restarting", "job"},
		{true, "ancestor=nginx:1", "web-2 web-1"},
		{true, "before=db", "web-1"},
		{true, "since=db", "job web-2"},
		{true, "since=web-1 before=" + string(b) + "", ""},
		{true, "volume=data", "db"},
		{true, "volume=/var/lib", "db"},
		{true, "health=starting", "web-1"},
		{true, "health=none name=web", "web-2"},
	} {
		f, err := ParseFilter(strings.Fields(x.filters))
		if err != nil {
			t.Fatal(err)
		}
		f.All = x.all
		list, err := Views(dirs, f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range list {
			got = append(got, v.Spec.Name)
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("all %v, %s: %v, want %s", x.all, x.filters, got, x.want)
		}
	}
	if list, err := Views(dirs, Filter{Last: 2}); err != nil || len(list) != 2 || list[1].Spec.Name != "web-2" {
		t.Errorf("the last two: %v, %v", list, err)
	}
	if list, err := Views(dirs, Filter{Ancestors: []string{"base"}, Last: 9,
		Descends: func(i spec.Image) bool { return i.Config == "sha256:1" }}); err != nil || len(list) != 1 {
		t.Errorf("descendants: %v, %v", list, err)
	}
}

func TestWrongFilters(t *testing.T) {
	for _, text := range []string{"name", "name=", "colour=red", "exited=soon", "status=happy", "health=fine", "publish=x", "expose=80/icmp", "expose=9-8", "is-task=true", "network="} {
		if _, err := ParseFilter([]string{text}); err == nil || errs.HintOf(err) == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
	dirs := Dirs{t.TempDir(), t.TempDir()}
	for _, f := range []Filter{{Names: []string{"["}}, {Before: "nobody"}} {
		if _, err := Views(dirs, f); err == nil || errs.HintOf(err) == "" {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestWritten(t *testing.T) {
	dirs := Dirs{t.TempDir(), t.TempDir()}
	id := place(t, dirs, spec.Container{Name: "x"}, State{})
	upper := filepath.Join(Dir(dirs, id), "upper")
	if err := os.WriteFile(filepath.Join(upper, "a"), bytes.Repeat([]byte("x"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(upper, "a"), filepath.Join(upper, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upper, "hole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(upper, "hole"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if n, err := Written(dirs, id); err != nil || n != 10000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestWithout(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"b":{"c":[1,2,{"a":"}"}]},"d":"x"}`:      `{"a":1,"d":"x"}`,
		`{"b":[],"a":"\"b\":1,"}`:                        `{"a":"\"b\":1,"}`,
		"{ \"b\" : 1 ,\n \"a\" : [ ] , \"b\":\"\\\\\" }": `{"a" : [ ] }`,
		`{"b":1}`: `{}`,
		`{}`:      `{}`,
		`{"b":`:   `{"b":`,
		`[1]`:     `[1]`,
		``:        ``,
	} {
		if got := string(without([]byte(in), "b")); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// What is left of an object is what a JSON parser would leave of it.
func FuzzWithout(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":{"c":"}\""}}`, `{"b":[{}],"a":"\\"}`, `{"b":1 , "c":2}`, `{"`, `{"a`, `{"a":"`, `{"a":}`, ` { } `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var whole, rest map[string]any
		got := without([]byte(s), "b")
		if json.Unmarshal([]byte(s), &whole) != nil || strings.Contains(s, `\u`) {
			return
		}
		if err := json.Unmarshal(got, &rest); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		delete(whole, "b")
		if len(whole) != len(rest) || len(whole) > 0 && !reflect.DeepEqual(whole, rest) {
			t.Errorf("%s: %v, want %v", s, rest, whole)
		}
	})
}

func TestPortAndNetworkFilters(t *testing.T) {
	c := &spec.Container{Networking: spec.Networking{Attachments: []spec.Attachment{{Network: "lab"}},
		Ports:  []spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}},
		Expose: []spec.Service{{Protocol: spec.UDP, Port: 53}}}}
	all := *c
	all.Networking.PublishAll = true
	host := &spec.Container{Namespaces: spec.Namespaces{Net: spec.Namespace{Mode: spec.Host}}}
	for text, want := range map[string][3]bool{
		"publish=80": {true, true, false}, "publish=8080": {}, "publish=70-90/tcp": {true, true, false}, "publish=80/udp": {},
		"publish=53/udp": {false, true, false}, "expose=53/udp": {true, true, false}, "expose=53": {}, "expose=80": {},
		"network=lab": {true, true, false}, "network=host": {false, false, true}, "network=la": {},
	} {
		f, err := ParseFilter([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		f.All = true
		pass, err := f.resolve(Dirs{})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []*spec.Container{c, &all, host} {
			if pass(View{Snapshot: Snapshot{Spec: c}}) != want[i] {
				t.Errorf("%s: of %d not %v", text, i, want[i])
			}
		}
	}
}
