package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
	"github.com/cortenhq/corten/internal/supply"
)

// library is a library with what tests do to one. Package supply's tests say how images
// come; here they only have to be there.
type library struct{ *image.Library }

func newLibrary(t *testing.T, kind string) *library {
	t.Helper()
	dir := t.TempDir()
	l, err := image.Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"), kind)
	if err != nil {
		t.Fatal(err)
	}
	return &library{l}
}

func ref(t *testing.T, s string) oci.Ref {
	t.Helper()
	r, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pull pulls name, which must work.
func (l *library) pull(t *testing.T, name string) image.Image {
	t.Helper()
	x, _, err := supply.Pull(t.Context(), l.Library, registry.New(registry.Config{}), ref(t, name), nil, func(image.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// sound checks every byte of the store.
func (l *library) sound(t *testing.T) {
	t.Helper()
	problems, err := l.Store().Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("the store is damaged: %v", p)
	}
}

// count says how many entries index.json has.
func (l *library) count(t *testing.T) int {
	t.Helper()
	list, err := l.Store().Images()
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// breakBlob changes a byte of a blob in the store.
func breakBlob(t *testing.T, l *library, d oci.Digest) {
	t.Helper()
	path := filepath.Join(l.Store().Dir(), "blobs", d.Algorithm(), d.Hex())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Remove(path); err != nil { // it may not be written to
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
}

// joined is the first of several errors.
func joined(err error) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()[0]
	}
	return err
}
