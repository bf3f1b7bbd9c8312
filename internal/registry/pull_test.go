package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An image pushed by another client arrives with the digests that client computed.
func TestPull(t *testing.T) {
	host := serve(t, newRegistry())
	img := push(t, host+"/a/b:1", 100_000, 3)
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	done := map[oci.Digest]int64{}
	c := newClient(t, Config{Progress: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Retry == nil {
			done[e.Digest] = e.Done
		}
	}})
	ref := mustRef(t, host+"/a/b:1")
	head, err := c.Head(t.Context(), ref)
	if err != nil || string(head.Digest) != want.String() || head.MediaType != oci.TypeDockerManifest {
		t.Fatalf("Head = %+v, %v; want %s", head, err, want)
	}
	m, err := pull(t.Context(), c, ref)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Layers[i].Digest) != d.String() {
			t.Errorf("layer %d is %s, want %s", i, m.Layers[i].Digest, d)
		}
		if done[m.Layers[i].Digest] != m.Layers[i].Size {
			t.Errorf("layer %d: progress ended at %d of %d", i, done[m.Layers[i].Digest], m.Layers[i].Size)
		}
	}
	ref.Digest, ref.Tag = oci.Digest(want.String()), ""
	if _, err := pull(t.Context(), c, ref); err != nil {
		t.Errorf("by digest: %v", err)
	}
	ref.Digest = oci.FromBytes(nil)
	_, err = pull(t.Context(), c, ref)
	wantError(t, err, errs.NotFound, string(ref.Digest), host)
	_, err = pull(t.Context(), c, mustRef(t, host+"/a/b:2"))
	wantError(t, err, errs.NotFound, host+"/a/b:2")
	_, err = c.Head(t.Context(), mustRef(t, host+"/a/b:2"))
	wantError(t, err, errs.NotFound, host+"/a/b:2")
	_, err = pull(t.Context(), c, mustRef(t, host+"/none:2"))
	wantError(t, err, errs.NotFound, "repository does not exist")
}

func TestPullIndex(t *testing.T) {
	host := serve(t, newRegistry())
	var idx v1.ImageIndex = mutate.IndexMediaType(emptyIndex(t), types.OCIImageIndex)
	var want string
	for _, p := range []v1.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}} {
		img, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		img = mutate.MediaType(mutate.ConfigMediaType(img, types.OCIConfigJSON), types.OCIManifestSchema1)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
		if p.Architecture == "amd64" {
			m, err := img.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			want = m.Config.Digest.String()
		}
	}
	at, err := name.ParseReference(host + "/multi:x")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(at, idx); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Config{})
	m, err := pull(t.Context(), c, mustRef(t, host+"/multi:x"))
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Config.Digest) != want {
		t.Errorf("config %s, want %s", m.Config.Digest, want)
	}
}

func emptyIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	idx, err := random.Index(1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

// A registry that gives no digest in the header of its answer to HEAD is asked with GET.
func TestHeadWithoutDigest(t *testing.T) {
	g := &rig{next: newRegistry()}
	host := serve(t, g)
	img := push(t, host+"/x:1", 10, 1)
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	g.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return r.Method == http.MethodHead // an empty 200
	}
	got, err := newClient(t, Config{}).Head(t.Context(), mustRef(t, host+"/x:1"))
	if err != nil || string(got.Digest) != want.String() {
		t.Fatalf("Head = %+v, %v; want %s", got, err, want)
	}
}

// What a registry may send instead of an image.
func TestStrangeManifests(t *testing.T) {
	const cfg = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	const layer = `"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2`
	tests := []struct {
		name, contentType, body string
		kind                    errs.Kind
		says                    string
	}{
		{"schema 1 by type", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, errs.Unsupported, "schema 1"},
		{"schema 1 by content", "application/json", `{"schemaVersion":1,"name":"x"}`, errs.Unsupported, "schema 1"},
		{"web page", "text/html", `<html>welcome</html>`, errs.Corrupt, "web page"},
		{"both", oci.TypeManifest, `{"schemaVersion":2,` + cfg + `,"layers":[],"manifests":[]}`, errs.Corrupt, "neither clearly"},
		{"neither", oci.TypeManifest, `{"schemaVersion":2}`, errs.Corrupt, "neither clearly"},
		{"wrong type", oci.TypeIndex, `{"schemaVersion":2,` + cfg + `,"layers":[]}`, errs.Unsupported, "type"},
		{"strange type", oci.TypeManifest, `{"mediaType":"x/y","schemaVersion":2,` + cfg + `,"layers":[]}`, errs.Unsupported, "x/y"},
		{"too large", oci.TypeManifest, strings.Repeat(" ", MaxManifest+1), errs.Invalid, "4 MiB"},
		{"artifact", oci.TypeManifest, `{"artifactType":"application/vnd.cncf.helm","config":{"mediaType":"application/vnd.oci.empty.v1+json",` + layer + `},"layers":[]}`, errs.Unsupported, "helm"},
		{"foreign", oci.TypeManifest, `{` + cfg + `,"layers":[{"mediaType":"` + oci.TypeDockerForeign + `",` + layer + `}]}`, errs.Unsupported, "layers included"},
		{"urls", oci.TypeManifest, `{` + cfg + `,"layers":[{"mediaType":"` + oci.TypeLayerGzip + `","urls":["http://169.254.169.254/"],` + layer + `}]}`, errs.Unsupported, "layers included"},
		{"encrypted", oci.TypeManifest, `{` + cfg + `,"layers":[{"mediaType":"` + oci.TypeLayerGzip + `+encrypted",` + layer + `}]}`, errs.Unsupported, "encrypted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				io.WriteString(w, tt.body)
			}))
			_, err := pull(t.Context(), newClient(t, Config{}), mustRef(t, host+"/x"))
			wantError(t, err, tt.kind, tt.says)
		})
	}
}

// No type at all: the content tells.
func TestManifestWithoutType(t *testing.T) {
	for body, want := range map[string]string{
		`{"manifests":[],"layers":null}`:            oci.TypeIndex,
		`{"config":{},"layers":[]}`:                 oci.TypeManifest,
		`{"config":{},"layers":[],"fsLayers":null}`: oci.TypeManifest,
	} {
		if got, err := classify([]byte(body), "application/json"); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", body, got, err, want)
		}
	}
}

// Bytes that are not what the digest says are refused, whoever vouches for them.
func TestManifestDigestChecked(t *testing.T) {
	const body = `{"schemaVersion":2,"config":{},"layers":[]}`
	g := &rig{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", string(oci.FromBytes([]byte("other"))))
		io.WriteString(w, body)
	})}
	host := serve(t, g)
	c := newClient(t, Config{})
	_, _, err := c.Resolve(t.Context(), mustRef(t, host+"/x:1"))
	wantError(t, err, errs.Corrupt, "digest")
	_, _, err = c.Resolve(t.Context(), mustRef(t, host+"/x@"+string(oci.FromBytes([]byte("other")))))
	wantError(t, err, errs.Corrupt, "digest")
	_, err = c.Manifest(t.Context(), mustRef(t, host+"/x"), oci.Descriptor{Digest: oci.FromBytes([]byte(body)), Size: 5})
	wantError(t, err, errs.Corrupt, "size")
}

func TestCancel(t *testing.T) {
	h, _, desc := blobServer(1 << 20)
	release := make(chan struct{})
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		w.Header().Set("Content-Length", "1048576")
		w.Write(make([]byte, 100))
		w.(http.Flusher).Flush()
		<-release
		return true
	}
	host := serve(t, g)
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := newClient(t, Config{}).Blob(ctx, mustRef(t, host+"/x"), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 100)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = r.Read(buf)
	wantError(t, err, errs.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
}

// FuzzManifest: whatever is accepted is of one kind only and has valid digests.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}`), "")
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",`+
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`), oci.TypeManifest)
	f.Add([]byte(`{"schemaVersion":1}`), oci.TypeDockerSchema1)
	f.Fuzz(func(t *testing.T, raw []byte, served string) {
		mediaType, err := classify(raw, served)
		if err != nil {
			if errs.HintOf(err) == "" {
				t.Errorf("no hint in %v", err)
			}
			return
		}
		if oci.IsIndex(mediaType) == oci.IsManifest(mediaType) {
			t.Errorf("type %q", mediaType)
		}
		if m, err := ParseManifest(raw); err == nil {
			for _, l := range append(m.Layers, m.Config) {
				if !l.Digest.Valid() || l.Size < 0 {
					t.Errorf("accepted %+v", l)
				}
			}
		}
		if idx, err := ParseIndex(raw); err == nil {
			oci.Select(idx, oci.Platform{OS: "linux", Architecture: "amd64"})
		}
	})
}
