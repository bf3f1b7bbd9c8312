package store

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// open opens a store in a new directory.
func open(t testing.TB) *Store {
	t.Helper()
	return must(Open(t.TempDir()))(t)
}

// must turns a value and an error into the value.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got error %v, want kind %q", err, kind)
	}
}

func lease(t testing.TB, s *Store) *Lease {
	t.Helper()
	l := must(s.Lease("test"))(t)
	t.Cleanup(func() { l.Close() })
	return l
}

// layer puts files in and returns the index of a layer that has them; its diff id is that
// of its content.
func layer(l *Lease, files ...string) (*tree.Index, error) {
	x := &tree.Index{Entries: []tree.Entry{{Type: tree.Dir, Mode: 0o755}}}
	for i, content := range files {
		d, err := l.PutBytes([]byte(content))
		if err != nil {
			return nil, err
		}
		x.Entries = append(x.Entries, tree.Entry{Path: fmt.Sprintf("f%06d", i), Type: tree.Regular, Mode: 0o644, Size: int64(len(content)), Object: d})
	}
	x.DiffID = oci.FromBytes([]byte(strings.Join(files, "\x00")))
	return x, nil
}

// config and manifest are what an image of these layers has; label makes it another image.
func config(label string, layers ...oci.Digest) []byte {
	b, err := json.Marshal(oci.Image{
		Platform: oci.Platform{OS: "linux", Architecture: "amd64"},
		Config:   oci.Config{Labels: map[string]string{"label": label}},
		RootFS:   oci.RootFS{Type: "layers", DiffIDs: layers},
	})
	if err != nil {
		panic(err)
	}
	return b
}

func manifest(config []byte, layers ...oci.Digest) []byte {
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest,
		Config: oci.Descriptor{MediaType: oci.TypeConfig, Digest: oci.FromBytes(config), Size: int64(len(config))}}
	for _, d := range layers {
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: oci.TypeLayer, Digest: d, Size: 1})
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func descriptor(mediaType string, b []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(b), Size: int64(len(b))}
}

// pull does what a pull does, with layers given as lists of file contents, and names the
// image. The label alone makes another image of the same layers.
func pull(s *Store, ref, label string, layers ...[]string) (oci.Descriptor, error) {
	l, err := s.Lease("pull " + ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer l.Close()
	var diffs []oci.Digest
	var indexes []*tree.Index
	for _, files := range layers {
		x, err := layer(l, files...)
		if err != nil {
			return oci.Descriptor{}, err
		}
		diffs, indexes = append(diffs, x.DiffID), append(indexes, x)
	}
	if err := l.PutLayers(ctx, indexes...); err != nil {
		return oci.Descriptor{}, err
	}
	c := config(label, diffs...)
	m := manifest(c, diffs...)
	d := descriptor(oci.TypeManifest, m)
	if err := l.PutBlob(d.Digest, m); err != nil {
		return d, err
	}
	if err := l.PutBlob(oci.FromBytes(c), c); err != nil {
		return d, err
	}
	if _, err := l.PutTree(NewTreeKey(EROFS, 1, diffs), buildTree); err != nil {
		return d, err
	}
	return d, s.SetRef(ref, d)
}

// contents lists every file of the store that a reference, hold or lease is needed for.
func contents(t testing.TB, s *Store) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"blobs/*/*", "objects/*/*", "layers/*", "trees/*", "leases/*", "tmp/*", ".tmp*"} {
		list = append(list, must(filepath.Glob(s.path(pattern)))(t)...)
	}
	slices.Sort(list)
	return list
}

// sound fails the test if Check finds anything.
func sound(t testing.TB, s *Store) {
	t.Helper()
	for _, p := range must(s.Check(ctx))(t) {
		t.Errorf("check: %v", p)
	}
}
