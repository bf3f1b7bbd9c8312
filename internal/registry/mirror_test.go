package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry/registries"
)

// A mirror is asked first, and what it lacks or spoils comes from the registry.
func TestMirror(t *testing.T) {
	whole, empty := newRegistry(), newRegistry()
	push(t, serve(t, whole)+"/hub/library/x:1", 1000, 2)
	tests := []struct {
		name   string
		mirror http.Handler
		fault  func(w http.ResponseWriter, r *http.Request, n int) bool
		origin bool // is the registry itself asked?
	}{
		{"has it", whole, nil, false},
		{"has nothing", empty, nil, true},
		{"is broken", empty, func(w http.ResponseWriter, r *http.Request, n int) bool { w.WriteHeader(500); return true }, true},
		{"wants credentials", empty, func(w http.ResponseWriter, r *http.Request, n int) bool { w.WriteHeader(401); return true }, true},
		{"is a web page", empty, func(w http.ResponseWriter, r *http.Request, n int) bool { w.Write([]byte("<html>")); return true }, true},
		{"has blobs of another size", whole, func(w http.ResponseWriter, r *http.Request, n int) bool {
			if isBlob(r) {
				w.Write([]byte("other"))
			}
			return isBlob(r)
		}, true},
		{"cuts every blob", whole, func(w http.ResponseWriter, r *http.Request, n int) bool {
			if isBlob(r) {
				whole.ServeHTTP(&cutWriter{w, 3}, r)
			}
			return isBlob(r)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mirror := &rig{next: tt.mirror, fault: tt.fault}
			origin := &rig{next: whole}
			c := newClient(t, Config{Registries: []registries.Registry{{
				Prefix: "registry.invalid", Location: serve(t, origin) + "/hub",
				Mirrors: []registries.Mirror{{Location: serve(t, mirror) + "/hub"}},
			}}})
			if _, err := pull(t.Context(), c, mustRef(t, "registry.invalid/library/x:1")); err != nil {
				t.Fatal(err)
			}
			if mirror.count("") == 0 || (origin.count("") > 0) != tt.origin {
				t.Errorf("mirror was asked %d times, the registry %d times", mirror.count(""), origin.count(""))
			}
		})
	}
}

// The error is the registry's, with what the mirror said.
func TestMirrorErrors(t *testing.T) {
	c := newClient(t, Config{Registries: []registries.Registry{{
		Prefix: "registry.invalid", Location: serve(t, newRegistry()),
		Mirrors: []registries.Mirror{{Location: "mirror.invalid"}},
	}}})
	_, _, err := c.Resolve(t.Context(), mustRef(t, "registry.invalid/x"))
	wantError(t, err, errs.NotFound, "repository does not exist", "mirrors:", "mirror.invalid")
	err = readBlob(t.Context(), c, mustRef(t, "registry.invalid/x"), oci.Descriptor{Digest: oci.FromBytes([]byte("x")), Size: 1})
	wantError(t, err, errs.NotFound, "mirrors:", "mirror.invalid")
}

func TestBlocked(t *testing.T) {
	c := newClient(t, Config{Registries: []registries.Registry{{Prefix: "docker.io/evil", Blocked: true, File: "/etc/x.json"}}})
	_, _, err := c.Resolve(t.Context(), mustRef(t, "evil/miner"))
	wantError(t, err, errs.Denied, "blocked docker.io/evil", "/etc/x.json")
}

func TestEndpoints(t *testing.T) {
	const digest = "@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	settings := []registries.Registry{
		{Prefix: "docker.io", Mirrors: []registries.Mirror{{Location: "m1:5000/hub"}, {Location: "m2", Insecure: true, PullFromMirror: "digest-only"}, {Location: "m3", PullFromMirror: "tag-only"}}},
		{Prefix: "docker.io/library", Location: "in.example/base"},
		{Prefix: "q.io", Insecure: true, MirrorByDigestOnly: true, Mirrors: []registries.Mirror{{Location: "docker.io/q"}}},
		{Prefix: "q.io/a/b:1", Location: "pin.io/c"},
		{Prefix: "*.example.com", Mirrors: []registries.Mirror{{Location: "sub"}}},
	}
	tests := []struct{ ref, want string }{
		{"me/app", "m1:5000/hub/me/app m3/me/app registry-1.docker.io/me/app"},
		{"me/app" + digest, "m1:5000/hub/me/app m2!/me/app registry-1.docker.io/me/app"},
		{"debian", "in.example/base/debian"},
		{"q.io/x", "q.io!/x"},
		{"q.io/x" + digest, "registry-1.docker.io/q/x q.io!/x"},
		{"q.io/a/b:1", "pin.io/c"},
		{"q.io/a/b:2", "q.io!/a/b"},
		{"q.iox/x", "q.iox/x"},
		{"a.example.com/x", "sub/x a.example.com/x"},
		{"a.b.example.com:5000/x", "sub/x a.b.example.com:5000/x"},
		{"example.com/x", "example.com/x"},
	}
	c := New(Config{Registries: settings})
	for _, tt := range tests {
		list, err := c.endpoints(mustRef(t, tt.ref))
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, ep := range list {
			host := ep.host
			if ep.insecure {
				host += "!"
			}
			got = append(got, host+"/"+ep.repo)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.ref, got, tt.want)
		}
	}
}
