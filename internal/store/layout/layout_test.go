package layout

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

const ref = "docker.io/library/a:1"

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB) Layout {
	t.Helper()
	l := Layout(t.TempDir())
	ok(t, l.Create())
	return l
}

// put stores v, or its JSON, and returns what points at it.
func put(t testing.TB, l Layout, mediaType string, v any) oci.Descriptor {
	t.Helper()
	b, raw := v.([]byte)
	if !raw {
		var err error
		b, err = json.Marshal(v)
		ok(t, err)
	}
	d := oci.FromBytes(b)
	ok(t, CheckBlob(d, b))
	ok(t, l.PutBlob(string(l), d, b))
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func image(t testing.TB, l Layout, label string) (manifest, config oci.Descriptor) {
	config = put(t, l, oci.TypeConfig, oci.Image{Platform: oci.Platform{OS: "linux", Architecture: "amd64"},
		Config: oci.Config{Labels: map[string]string{"label": label}}, RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{oci.FromBytes(nil)}}})
	return put(t, l, oci.TypeManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest, Config: config}), config
}

// TestOracle has the layout read by somebody else.
func TestOracle(t *testing.T) {
	l := create(t)
	a, _ := image(t, l, "a")
	b, _ := image(t, l, "b")
	a.Annotations = map[string]string{"other": "kept"}
	ok(t, l.WriteImages([]Image{{"z", b}, {ref, a}}))
	index, err := layout.ImageIndexFromPath(string(l))
	ok(t, err)
	list, err := index.IndexManifest()
	ok(t, err)
	if got := list.Manifests; len(got) != 2 || got[0].Annotations[oci.AnnotationRefName] != ref || got[0].Annotations["other"] != "kept" {
		t.Fatalf("read %+v", got)
	}
	theirs, err := index.Image(list.Manifests[0].Digest)
	ok(t, err)
	config, err := theirs.ConfigFile()
	ok(t, err)
	if config.Config.Labels["label"] != "a" {
		t.Errorf("read %+v", config)
	}
}

// TestForeignIndex reads an index.json that another tool wrote in its own way.
func TestForeignIndex(t *testing.T) {
	l := create(t)
	a, _ := image(t, l, "a")
	b, err := os.ReadFile(l.index())
	ok(t, err)
	ok(t, l.WriteImages([]Image{{ref, a}}))
	ours, err := l.Images()
	ok(t, err)
	for _, indent := range []string{"", "  "} {
		x := oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{a}}
		x.Manifests[0].Annotations = map[string]string{oci.AnnotationRefName: ref}
		b, err = json.MarshalIndent(x, "", indent)
		ok(t, err)
		ok(t, os.WriteFile(l.index(), b, 0o644))
		got, err := l.Lookup(ref)
		ok(t, err)
		theirs, err := l.Images()
		ok(t, err)
		if diff := cmp.Diff(ours, theirs); diff != "" || got.Digest != a.Digest {
			t.Errorf("indent %q: %s", indent, diff)
		}
	}
	for _, text := range []string{"", "{", `{"manifests":[{"digest":"sha256:../../x"}]}`, strings.ReplaceAll(string(b), "sha256:", "sha999:")} {
		ok(t, os.WriteFile(l.index(), []byte(text), 0o644))
		_, err := l.Images()
		_, lerr := l.Lookup(ref)
		if !errs.Is(err, errs.Corrupt) || !errs.Is(lerr, errs.Corrupt) {
			t.Errorf("%q: %v, %v", text, err, lerr)
		}
	}
}

func TestContent(t *testing.T) {
	l := create(t)
	a, config := image(t, l, "a")
	partly := put(t, l, oci.TypeManifest, oci.Manifest{Config: oci.Descriptor{Digest: oci.FromBytes([]byte("absent"))}})
	absent := oci.Descriptor{Digest: oci.FromBytes([]byte("absent"))}
	inner := put(t, l, oci.TypeIndex, oci.Index{Manifests: []oci.Descriptor{a, a}})
	outer := put(t, l, oci.TypeIndex, oci.Index{Manifests: []oci.Descriptor{absent, partly, inner, a}})
	got, err := l.Content(outer.Digest)
	ok(t, err)
	if len(got.Images) != 2 || !errs.Is(got.Images[0].Fault, errs.NotFound) {
		t.Fatalf("images %+v", got.Images)
	}
	got.Images = got.Images[1:]
	want := Content{
		Blobs:  []oci.Digest{outer.Digest, partly.Digest, inner.Digest, a.Digest, config.Digest},
		Images: []Parts{{Manifest: a.Digest, Config: config.Digest, Layers: []oci.Digest{oci.FromBytes(nil)}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	_, err = l.Content(absent.Digest)
	if !errs.Is(err, errs.NotFound) {
		t.Errorf("absent: %v", err)
	}
}

// FuzzContent puts any bytes where a registry's are: as manifest and as configuration.
func FuzzContent(f *testing.F) {
	l := create(f)
	a, c := image(f, l, "a")
	index, _ := json.Marshal(oci.Index{Manifests: []oci.Descriptor{a}})
	manifest, _ := l.Blob(a.Digest)
	config, _ := l.Blob(c.Digest)
	f.Add(index, manifest)
	f.Add(manifest, config)
	f.Add([]byte(`{"config":{"digest":"sha256:../../x"}}`), []byte(`{"rootfs":{"diff_ids":["../x"]}}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for _, b := range [][]byte{one, two} {
			ok(t, os.WriteFile(l.BlobPath(oci.FromBytes(b)), b, 0o644))
		}
		for _, b := range [][]byte{one, two} {
			defer os.Remove(l.BlobPath(oci.FromBytes(b)))
			got, err := l.Content(oci.FromBytes(b))
			if err != nil {
				continue
			}
			for _, p := range got.Images {
				for _, d := range p.Layers {
					if !d.Valid() || p.Fault != nil {
						t.Errorf("%+v", p)
					}
				}
			}
		}
	})
}
