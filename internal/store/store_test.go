package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

var ctx = context.Background()

func buildTree(path string) error { return os.WriteFile(path, []byte("tree"), 0o644) }

func TestOpen(t *testing.T) {
	root := filepath.Join(t.TempDir(), "var", "corten")
	s := must(Open(root))(t)
	if info := must(os.Stat(s.Dir()))(t); info.Mode().Perm() != 0o700 {
		t.Errorf("the store's mode is %v", info.Mode())
	}
	sound(t, s)
	// Killed before the end of its creation, a store is created again around what is there.
	d := must(pull(s, "localhost/a:1", "", []string{"content"}))(t)
	ok(t, os.Remove(s.path("format")))
	s = must(Open(root))(t)
	if got := must(s.Lookup("localhost/a:1"))(t); got.Digest != d.Digest {
		t.Errorf("looked up %v", got)
	}
	sound(t, s)

	ok(t, os.WriteFile(s.path("format"), []byte("corten store 2\n"), 0o644))
	_, err := Open(root)
	wantKind(t, err, errs.Unsupported)
	if errs.HintOf(err) == "" {
		t.Error("no hint for a newer store")
	}
}

// TestOpenRace creates one store many times at once.
func TestOpenRace(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(root)
			if err == nil {
				_, err = pull(s, "localhost/a:1", "", []string{"content"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sound(t, must(Open(root))(t))
}

// hostile are things that are not digests, though a path may be hidden in them.
var hostile = []oci.Digest{
	"", "sha256", "sha256:", ":", "sha256:../../../../etc/passwd", "../../../etc:passwd",
	"sha256:" + oci.Digest(strings.Repeat("a", 63)), "sha256:" + oci.Digest(strings.Repeat("a", 65)),
	"sha256:" + oci.Digest(strings.Repeat("A", 64)), "sha512:" + oci.Digest(strings.Repeat("a", 64)),
	"sha256:" + oci.Digest(strings.Repeat("../", 21)) + "a", "md5:" + oci.Digest(strings.Repeat("a", 32)),
	"sha256:" + oci.Digest(strings.Repeat("a", 62)+"/a"), "sha256:" + oci.Digest(strings.Repeat("a", 63)+"\x00"),
}

func TestHostileDigests(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	tries := map[string]func(oci.Digest) error{
		"Blob":       func(d oci.Digest) error { _, err := s.Blob(d); return err },
		"PutBlob":    func(d oci.Digest) error { return l.PutBlob(d, []byte("x")) },
		"ObjectPath": func(d oci.Digest) error { _, err := s.ObjectPath(d); return err },
		"OpenObject": func(d oci.Digest) error { _, err := s.OpenObject(d); return err },
		"UseObject":  func(d oci.Digest) error { _, err := l.UseObject(d); return err },
		"Layer":      func(d oci.Digest) error { _, err := s.Layer(d); return err },
		"UseLayer":   func(d oci.Digest) error { _, err := l.UseLayer(d); return err },
		"PutLayers":  func(d oci.Digest) error { return l.PutLayers(ctx, &tree.Index{DiffID: d}) },
		"Use":        func(d oci.Digest) error { return l.Use(d) },
		"SetRef":     func(d oci.Digest) error { return s.SetRef("localhost/a:1", oci.Descriptor{Digest: d}) },
		"Hold": func(d oci.Digest) error {
			if d == "" {
				return errs.New(errs.Invalid, "", "", nil) // nothing to hold is allowed
			}
			return s.Hold(Hold{ID: "a", Manifest: d}, disk.Volatile)
		},
		"Hold layer": func(d oci.Digest) error { return s.Hold(Hold{ID: "a", Layers: []oci.Digest{d}}, disk.Volatile) },
		"config": func(d oci.Digest) error { // of an image that comes from outside
			c := config("", d)
			m := manifest(c)
			ok(t, l.PutBlob(oci.FromBytes(c), c))
			ok(t, l.PutBlob(oci.FromBytes(m), m))
			return s.SetRef("localhost/a:1", descriptor(oci.TypeManifest, m))
		},
	}
	for name, try := range tries {
		for _, d := range hostile {
			if err := try(d); !errs.Is(err, errs.Invalid) {
				t.Errorf("%s(%q): %v, want an error of kind invalid", name, d, err)
			}
		}
	}
	for _, d := range hostile {
		if s.HasBlob(d) || s.HasObject(d) || s.HasLayer(d) {
			t.Errorf("has %q", d)
		}
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\nb", "\x00"} {
		wantKind(t, s.Hold(Hold{ID: id}, disk.Volatile), errs.Invalid)
		wantKind(t, s.Release(id), errs.Invalid)
	}
	wantKind(t, s.Hold(Hold{ID: "a", Owner: "x\nmanifest y"}, disk.Volatile), errs.Invalid)
	wantKind(t, s.Hold(Hold{ID: "a", Tree: "../../x"}, disk.Volatile), errs.Invalid)
	wantKind(t, s.SetRef("a\nb", oci.Descriptor{Digest: oci.FromBytes(nil)}), errs.Invalid)
}

func TestBlob(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	b := []byte(`{"some":"json"}`)
	sha512 := oci.Digest("sha512:" + strings.Repeat("0", 128))
	h := sha512.NewHash()
	h.Write(b)
	for _, d := range []oci.Digest{oci.FromBytes(b), oci.Digest("sha512:" + hex.EncodeToString(h.Sum(nil)))} {
		_, err := s.Blob(d)
		wantKind(t, err, errs.NotFound)
		for range 2 {
			ok(t, l.PutBlob(d, b))
		}
		if got := must(s.Blob(d))(t); !bytes.Equal(got, b) || !s.HasBlob(d) {
			t.Errorf("got %q", got)
		}
		ok(t, os.Remove(s.layout.BlobPath(d)))
		ok(t, os.WriteFile(s.layout.BlobPath(d), b[1:], 0o644))
		_, err = s.Blob(d)
		wantKind(t, err, errs.Corrupt)
	}
	wantKind(t, l.PutBlob(sha512, b), errs.Corrupt)
	if s.HasBlob(sha512) {
		t.Error("a blob with a wrong digest was published")
	}
}

func TestObject(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	big := bytes.Repeat([]byte("corten"), 200_000) // read in pieces
	sparse := make([]byte, 8<<20)
	sparse[3<<20], sparse[len(sparse)-1<<20] = 1, 1
	for name, b := range map[string][]byte{"empty": {}, "small": []byte("x"), "middle": big[:100_000], "big": big, "sparse": sparse, "zeros": make([]byte, 1<<20)} {
		for how, put := range map[string]func() (oci.Digest, error){
			"bytes": func() (oci.Digest, error) { return l.PutBytes(b) },
			"reader": func() (oci.Digest, error) {
				return l.PutReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("next")), int64(len(b)))
			},
		} {
			d := must(put())(t)
			if d != oci.FromBytes(b) || !s.HasObject(d) {
				t.Errorf("%s, %s: named %s", name, how, d)
			}
			f := must(s.OpenObject(d))(t)
			if got := must(io.ReadAll(f))(t); !bytes.Equal(got, b) {
				t.Errorf("%s, %s: %d bytes came back as %d", name, how, len(b), len(got))
			}
			var st unix.Stat_t
			ok(t, unix.Fstat(int(f.Fd()), &st))
			f.Close()
			if st.Mode&0o7777 != 0o444 {
				t.Errorf("%s, %s: mode %o", name, how, st.Mode)
			}
			if most := int64(16 << 10); (name == "sparse" || name == "zeros") && st.Blocks*512 > most {
				t.Errorf("%s, %s: takes %d bytes", name, how, st.Blocks*512)
			}
			ok(t, os.Remove(s.objectPath(d)))
		}
	}
	for _, size := range []int64{5, 1 << 20} {
		_, err := l.PutReader(strings.NewReader("four"), size)
		if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("a reader that ends early: %v", err)
		}
	}
	_, err := s.OpenObject(oci.FromBytes([]byte("unknown")))
	wantKind(t, err, errs.NotFound)
	if left := contents(t, s); len(left) != 2 { // the lease and its directory
		t.Errorf("left behind: %v", left)
	}
}

// TestObjectOnce puts the same content from many goroutines: one file, written once.
func TestObjectOnce(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	b := bytes.Repeat([]byte("x"), 300<<10)
	d := must(l.PutBytes(b))(t)
	inode := func() uint64 {
		var st unix.Stat_t
		ok(t, unix.Stat(s.objectPath(d), &st))
		return st.Ino
	}
	before := inode()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = l.PutBytes(b)
			} else {
				_, err = l.PutReader(bytes.NewReader(b), int64(len(b)))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if inode() != before {
		t.Error("known content was written again")
	}
}

func TestLayers(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	x := must(layer(l, "a", "b", "a"))(t)
	y := must(layer(l, "a", "c"))(t)
	_, err := s.Layer(x.DiffID)
	wantKind(t, err, errs.NotFound)
	if must(l.UseLayer(x.DiffID))(t) {
		t.Error("the layer is there before it was put")
	}
	ok(t, l.PutLayers(ctx, x, y, x)) // an image may have a layer twice
	if got := must(s.Layer(x.DiffID))(t); got.DiffID != x.DiffID || len(got.Entries) != 4 {
		t.Errorf("got %+v", got)
	}
	if !must(l.UseLayer(y.DiffID))(t) || !s.HasLayer(y.DiffID) {
		t.Error("the layer is not there after it was put")
	}

	lost := must(layer(l, "lost"))(t)
	ok(t, os.Remove(s.objectPath(lost.Entries[1].Object)))
	err = l.PutLayers(ctx, lost)
	wantKind(t, err, errs.NotFound)
	if s.HasLayer(lost.DiffID) || errs.HintOf(err) == "" {
		t.Errorf("a layer without its object: %v", err)
	}
	lost.Entries[1].Object = "sha256:short"
	wantKind(t, l.PutLayers(ctx, lost), errs.Corrupt)

	stopped, cancel := context.WithCancel(ctx)
	cancel()
	wantKind(t, l.PutLayers(stopped, must(layer(l, "z"))(t)), errs.Canceled)

	// A record under another's name, as a slip of an administrator's.
	ok(t, os.Rename(s.layerPath(x.DiffID), s.layerPath(y.DiffID)))
	_, err = s.Layer(y.DiffID)
	wantKind(t, err, errs.Corrupt)
}

func TestTreeKey(t *testing.T) {
	a, b := oci.FromBytes([]byte("a")), oci.FromBytes([]byte("b"))
	k := NewTreeKey(EROFS, 3, []oci.Digest{a, b})
	want := "corten tree 1\nkind erofs\nwriter 3\nlayer " + string(a) + "\nlayer " + string(b) + "\n"
	if k.String() != want {
		t.Errorf("key\n%s\nwant\n%s", k, want)
	}
	if got := k.layers(); !slices.Equal(got, []oci.Digest{a, b}) {
		t.Errorf("layers %v", got)
	}
	if k.ID() != oci.FromBytes([]byte(want)).Hex() {
		t.Errorf("id %s", k.ID())
	}
	for _, other := range []TreeKey{NewTreeKey(Dir, 3, []oci.Digest{a, b}), NewTreeKey(EROFS, 4, []oci.Digest{a, b}), NewTreeKey(EROFS, 3, []oci.Digest{b, a}), NewTreeKey(EROFS, 3, nil)} {
		if other.ID() == k.ID() {
			t.Errorf("the same id for\n%s", other)
		}
	}
}

func TestTree(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	x := must(layer(l, "a"))(t)
	ok(t, l.PutLayers(ctx, x))
	for _, kind := range []TreeKind{EROFS, Dir} {
		k := NewTreeKey(kind, 1, []oci.Digest{x.DiffID})
		if _, ok := s.Tree(k); ok {
			t.Errorf("%s: there is a tree", kind)
		}
		_, err := l.PutTree(k, func(string) error { return io.ErrNoProgress })
		if err == nil || s.hasTree(k.ID()) {
			t.Errorf("%s: a tree that could not be built: %v", kind, err)
		}
		build := func(path string) error {
			if kind == Dir {
				path = filepath.Join(path, "file")
			}
			return buildTree(path)
		}
		path := must(l.PutTree(k, func(path string) error {
			must(lease(t, s).PutTree(k, build))(t) // somebody else is first
			return build(path)
		}))(t)
		if got, ok := s.Tree(k); !ok || got != path {
			t.Errorf("%s: tree at %q, want %q", kind, got, path)
		}
		must(l.PutTree(k, func(string) error { t.Error("built what is there"); return nil }))(t)
	}
	k := NewTreeKey(EROFS, 1, []oci.Digest{oci.FromBytes([]byte("no layer"))})
	_, err := l.PutTree(k, buildTree)
	wantKind(t, err, errs.NotFound)
	sound(t, s)
}

// TestLocking holds the store's lock as a collection does: whoever relies on something or
// changes something waits, who only reads does not.
func TestLocking(t *testing.T) {
	s := open(t)
	d := must(pull(s, "localhost/a:1", "", []string{"a"}))(t)
	l := lease(t, s)
	x := must(layer(l, "b"))(t)
	c := config("b", x.DiffID)
	k := NewTreeKey(EROFS, 1, nil)
	waiting := []struct {
		name string
		call func() error
	}{
		{"UseObject", func() error { _, err := l.UseObject(x.Entries[1].Object); return err }},
		{"UseLayer", func() error { _, err := l.UseLayer(x.DiffID); return err }},
		{"UseTree", func() error { _, _, err := l.UseTree(k); return err }},
		{"Use", func() error { return l.Use(d.Digest) }},
		{"PutBytes", func() error { _, err := l.PutBytes([]byte("c")); return err }},
		{"PutReader", func() error { _, err := l.PutReader(strings.NewReader("c"), 1); return err }},
		{"PutBlob", func() error { return l.PutBlob(oci.FromBytes(c), c) }},
		{"PutLayers", func() error { return l.PutLayers(ctx, x) }},
		{"PutTree", func() error { _, err := l.PutTree(k, buildTree); return err }},
		{"Hold", func() error { return s.Hold(Hold{ID: "c", Manifest: d.Digest}, disk.Volatile) }},
		{"SetRef", func() error { return s.SetRef("localhost/b:1", d) }},
		{"RemoveRef", func() error { return s.RemoveRef("localhost/b:1", false) }},
		{"Collect", func() error { _, err := s.Collect(ctx); return err }},
	}
	for _, w := range waiting {
		unlock := must(s.exclusive())(t)
		done := make(chan error, 1)
		go func() { done <- w.call() }()
		for !lockWaited(t, s) {
			select {
			case err := <-done:
				t.Fatalf("%s did not wait: %v", w.name, err)
			default:
			}
		}
		ok(t, unlock())
		ok(t, <-done)
	}
	unlock := must(s.exclusive())(t)
	defer unlock()
	must(Open(s.root))(t)
	must(s.Lookup("localhost/a:1"))(t)
	must(s.Images())(t)
	must(s.Find(d.Digest.Short()))(t)
	must(s.Blob(d.Digest))(t)
	must(s.Layer(x.DiffID))(t)
	must(s.Holds())(t)
	must(s.Sizes(ctx))(t)
	must(s.Check(ctx))(t)
	ok(t, s.Release("c"))
	ok(t, must(s.Lease("waits for nobody to begin"))(t).Close())
}

// lockWaited reports whether somebody waits for the store's lock: proc_locks(5).
func lockWaited(t *testing.T, s *Store) bool {
	t.Helper()
	var st unix.Stat_t
	ok(t, unix.Stat(s.path("lock"), &st))
	for line := range strings.Lines(string(must(os.ReadFile("/proc/locks"))(t))) {
		if f := strings.Fields(line); len(f) > 6 && f[1] == "->" && strings.HasSuffix(f[6], fmt.Sprint(":", st.Ino)) {
			return true
		}
	}
	return false
}
