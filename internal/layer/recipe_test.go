package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

func withRecipe(t testing.TB, tarball []byte) (recipe []byte, store *dirStore) {
	t.Helper()
	store = newDirStore(t.TempDir())
	var out bytes.Buffer
	if _, err := Read(t.Context(), bytes.NewReader(tarball), store, Options{Recipe: &out, DiffID: oci.FromBytes(tarball)}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), store
}

func checkRebuild(t *testing.T, name string, tarball []byte) {
	t.Helper()
	recipe, store := withRecipe(t, tarball)
	var again bytes.Buffer
	if err := Rebuild(bytes.NewReader(recipe), int64(len(recipe)), store.open, &again); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if !bytes.Equal(again.Bytes(), tarball) {
		t.Errorf("%s: %d bytes became %d", name, len(tarball), again.Len())
	}
}

func TestRebuild(t *testing.T) {
	trailed := append(many(t, 20, 70_000), strings.Repeat("after the end ", 20_000)...)
	whole := pack(t, typed(tar.TypeDir, "./"), reg("small", "x"), reg("medium", strings.Repeat("x", 5000)), reg("a/.wh.b", "with content"),
		reg("large", strings.Repeat("0123456789abcdef", 100_000)), reg("medium", strings.Repeat("y", 5000)), linked(tar.TypeLink, "hard", "medium"))
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"only an end":     pack(t),
		"different files": whole,
		"no end":          whole[:len(whole)-1024],
		"bytes after it":  trailed,
		"many":            many(t, 500, 1000),
	} {
		checkRebuild(t, name, b)
	}
	if os.Getuid() != 0 {
		t.Skip("making devices needs root")
	}
	dir := t.TempDir()
	furnish(t, dir)
	for name, b := range tarballs(t, dir) {
		checkRebuild(t, name, b)
	}
}

func TestRebuildDamaged(t *testing.T) {
	recipe, store := withRecipe(t, many(t, 40, 1000))
	before := runtime.NumGoroutine()
	for n := 0; n < len(recipe); n += 7 {
		bad := bytes.Clone(recipe)
		bad[n] ^= 0x21
		if err := Rebuild(bytes.NewReader(bad), int64(len(bad)), store.open, io.Discard); err == nil {
			t.Errorf("byte %d of %d changed: no error", n, len(recipe))
		}
		if err := Rebuild(bytes.NewReader(recipe[:n]), int64(n), store.open, io.Discard); !errs.Is(err, errs.Corrupt) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(recipe), err)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines stayed behind", n-before)
	}
	other := func(oci.Digest) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("something else")), nil
	}
	if err := Rebuild(bytes.NewReader(recipe), int64(len(recipe)), other, io.Discard); !errs.Is(err, errs.Corrupt) {
		t.Errorf("with other objects: %v", err)
	}
	none := func(oci.Digest) (io.ReadCloser, error) { return nil, os.ErrNotExist }
	if err := Rebuild(bytes.NewReader(recipe), int64(len(recipe)), none, io.Discard); !errs.Is(err, errs.NotFound) {
		t.Errorf("without objects: %v", err)
	}
}

// failWriter takes n bytes.
type failWriter struct{ n int }

var errWrite = errors.New("no more")

func (w *failWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errWrite
	}
	return len(p), nil
}

func TestRecipeCannotBeWritten(t *testing.T) {
	b := many(t, 500, 1000)
	recipe, store := withRecipe(t, b)
	for _, n := range []int{0, 10_000, len(recipe) - 1} {
		x, err := Read(t.Context(), bytes.NewReader(b), store, Options{Recipe: &failWriter{n}})
		if x != nil || !errors.Is(err, errWrite) {
			t.Errorf("%d bytes fit: %v, %v", n, x, err)
		}
	}
	if err := Rebuild(bytes.NewReader(recipe), int64(len(recipe)), store.open, &failWriter{10_000}); !errors.Is(err, errWrite) {
		t.Errorf("rebuild: %v", err)
	}
}

func FuzzRebuild(f *testing.F) {
	for _, b := range [][]byte{pack(f), pack(f, reg("a", strings.Repeat("x", 5000)), reg("b", "y"))} {
		recipe, _ := withRecipe(f, b)
		f.Add(recipe)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		open := func(oci.Digest) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
		err := Rebuild(bytes.NewReader(b), int64(len(b)), open, &failWriter{1 << 20})
		if err != nil && !errs.Is(err, errs.Corrupt) && !errors.Is(err, errWrite) {
			t.Fatal(err)
		}
	})
}
