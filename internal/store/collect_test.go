package store

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// TestCollectShared removes one of two images that share a layer and, in another, files.
func TestCollectShared(t *testing.T) {
	s := open(t)
	must(pull(s, refA, "a", []string{"base", "common"}, []string{"common", "only a"}))(t)
	b := must(pull(s, refB, "b", []string{"base", "common"}, []string{"common", "only b"}))(t)
	if f := must(s.Collect(ctx))(t); f != (Freed{}) {
		t.Errorf("freed %+v of what is in use", f)
	}
	ok(t, s.RemoveRef(refA, false))
	f := must(s.Collect(ctx))(t)
	if f.Objects != 1 || f.Layers != 1 || f.Trees != 1 || f.Blobs != 2 || f.Leases != 0 || f.Bytes < 5*4096 {
		t.Errorf("freed %+v", f)
	}
	sound(t, s)
	for content, want := range map[string]bool{"base": true, "common": true, "only a": false, "only b": true} {
		if got := s.HasObject(oci.FromBytes([]byte(content))); got != want {
			t.Errorf("%s: %v", content, got)
		}
	}
	ok(t, s.Remove(b.Digest, false))
	must(s.Collect(ctx))(t)
	if left := contents(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCollectLeased collects in the middle of a pull, after each of its steps.
func TestCollectLeased(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	collect := func() {
		t.Helper()
		if f := must(s.Collect(ctx))(t); f != (Freed{}) {
			t.Fatalf("freed %+v of a live lease", f)
		}
	}
	x := must(layer(l, "a", "b"))(t)
	collect()
	ok(t, l.PutLayers(ctx, x))
	collect()
	c := config("", x.DiffID)
	m := manifest(c, x.DiffID)
	d := descriptor(oci.TypeManifest, m)
	ok(t, l.PutBlob(d.Digest, m))
	collect()
	ok(t, l.PutBlob(oci.FromBytes(c), c))
	k := NewTreeKey(EROFS, 1, []oci.Digest{x.DiffID})
	must(l.PutTree(k, func(path string) error {
		collect()
		return buildTree(path)
	}))(t)
	collect()

	// Another lease on the image alone, then on the tree alone, keeps what it leads to.
	user := lease(t, s)
	wantKind(t, user.Use(oci.FromBytes(nil)), errs.NotFound)
	ok(t, user.Use(d.Digest))
	ok(t, l.Close())
	collect()
	last := lease(t, s)
	if _, ok, err := last.UseTree(k); !ok || err != nil {
		t.Fatalf("the tree is gone: %v", err)
	}
	ok(t, user.Close())
	if f := must(s.Collect(ctx))(t); f.Blobs != 2 || f.Layers+f.Objects+f.Trees != 0 {
		t.Errorf("freed %+v", f)
	}
	ok(t, last.Close())
	must(s.Collect(ctx))(t)
	if left := contents(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCollectMeets stops a collection where it has decided that an object is dead, and has
// a lease, then a layer, begin to rely on it.
func TestCollectMeets(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	for _, content := range []string{"leased", "recorded", "dead"} {
		must(l.PutBytes([]byte(content)))(t)
	}
	ok(t, l.Close())
	c := collector{s: s, ctx: ctx}
	defer c.close()
	ok(t, c.records())
	ok(t, c.readLayers())
	l = lease(t, s)
	if !must(l.UseObject(oci.FromBytes([]byte("leased"))))(t) {
		t.Fatal("gone too early")
	}
	writer := lease(t, s)
	ok(t, writer.PutLayers(ctx, must(layer(writer, "recorded"))(t)))
	ok(t, writer.Close())
	for i := range objectDirs {
		rest := must(c.removeObjects(objectDir(i), must(s.list("objects", objectDir(i)))(t)))(t)
		if len(rest) != 0 {
			t.Errorf("not looked at: %v", rest)
		}
	}
	if c.freed.Objects != 1 || !s.HasObject(oci.FromBytes([]byte("leased"))) || !s.HasObject(oci.FromBytes([]byte("recorded"))) {
		t.Errorf("freed %+v", c.freed)
	}
}

// TestCollectUnreadable collects around what it cannot read: nothing that it could lead to
// may go, and the message names it.
func TestCollectUnreadable(t *testing.T) {
	damage := map[string]func(s *Store, d oci.Digest, layer oci.Digest) string{
		"index.json": func(s *Store, d, _ oci.Digest) string { return s.path("index.json") },
		"manifest":   func(s *Store, d, _ oci.Digest) string { return s.layout.BlobPath(d) },
		"config": func(s *Store, d, _ oci.Digest) string {
			return s.layout.BlobPath(must(s.layout.Content(d))(t).Images[0].Config)
		},
		"layer": func(s *Store, _, layer oci.Digest) string { return s.layerPath(layer) },
	}
	for what, path := range damage {
		for _, how := range []string{"damaged", "missing"} {
			if how == "missing" && what == "layer" {
				continue // see TestCheck: then nothing names its objects
			}
			t.Run(what+" "+how, func(t *testing.T) {
				s := open(t)
				d := must(pull(s, refA, "a", []string{"x"}))(t)
				p := path(s, d.Digest, must(s.layout.Content(d.Digest))(t).Images[0].Layers[0])
				ok(t, os.Remove(p))
				if how == "damaged" {
					ok(t, os.WriteFile(p, []byte("{"), 0o644))
				}
				_, err := s.Collect(ctx)
				if err == nil || errs.HintOf(err) == "" && what != "index.json" {
					t.Errorf("collect: %v (hint %q)", err, errs.HintOf(err))
				}
				if !s.HasObject(oci.FromBytes([]byte("x"))) {
					t.Error("the object was collected")
				}
				if len(must(s.Check(ctx))(t)) == 0 {
					t.Error("check finds nothing")
				}
				if what == "index.json" {
					return
				}
				ok(t, s.RemoveRef(refA, false)) // the way out that the hint gives
				must(s.Collect(ctx))(t)
				if left := contents(t, s); len(left) != 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

// TestJournalTorn reads leases that end in the middle of a line, and damaged ones.
func TestJournalTorn(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	must(l.PutBytes([]byte("x")))(t)
	ok(t, l.append("object sha256:12"))
	if f := must(s.Collect(ctx))(t); f.Objects != 0 {
		t.Errorf("freed %+v", f)
	}
	ok(t, l.append("\n"))
	_, err := s.Collect(ctx)
	wantKind(t, err, errs.Corrupt)
	if !s.HasObject(oci.FromBytes([]byte("x"))) {
		t.Error("collected beside a lease that could not be read")
	}
}

func TestCollectCanceled(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	must(l.PutBytes([]byte("x")))(t)
	ok(t, l.Close())
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Collect(stopped)
	wantKind(t, err, errs.Canceled)
}

// TestCollectUnfinished finds what killed processes were making.
func TestCollectUnfinished(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	ok(t, os.WriteFile(l.temp("object"), []byte("x"), 0o644))
	ok(t, os.MkdirAll(s.path("tmp", "KILLED", "tree-1", "root"), 0o755))
	ok(t, os.WriteFile(s.path("tmp", "KILLED", "tree-1", "root", "f"), []byte("x"), 0o644))
	ok(t, os.WriteFile(s.path(".tmp-1-x-0"), []byte("x"), 0o644))
	ok(t, os.WriteFile(s.path("leases", ".tmp-1-x-0"), []byte("x"), 0o644))
	ok(t, os.WriteFile(s.path("leases", "KILLED.live"), []byte("# pid 1"), 0o644))
	if f := must(s.Collect(ctx))(t); f.Leases != 1 {
		t.Errorf("freed %+v", f)
	}
	if left := contents(t, s); len(left) != 2 { // the live lease and its directory
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(l.dir + "/object-1"); err != nil {
		t.Errorf("a live process's file: %v", err)
	}
}

// TestCheck damages each thing that an image is made of.
func TestCheck(t *testing.T) {
	b := []byte("content")
	object := oci.FromBytes(b)
	for name, damage := range map[string]func(s *Store, d oci.Digest) error{
		"object missing": func(s *Store, _ oci.Digest) error { return os.Remove(s.objectPath(object)) },
		"object short":   func(s *Store, _ oci.Digest) error { return os.Truncate(s.objectPath(object), 3) },
		"object changed": func(s *Store, _ oci.Digest) error {
			return os.WriteFile(s.objectPath(object), []byte("CONTENT"), 0o444)
		},
		"layer missing": func(s *Store, d oci.Digest) error { return os.Remove(s.layerPath(layersOf(s, d)[0])) },
		"layer changed": func(s *Store, d oci.Digest) error { return os.Truncate(s.layerPath(layersOf(s, d)[0]), 20) },
		"tree's key": func(s *Store, d oci.Digest) error {
			return os.Remove(s.path("trees", NewTreeKey(EROFS, 1, layersOf(s, d)).ID(), "key"))
		},
		"tree": func(s *Store, d oci.Digest) error {
			return os.Remove(s.path("trees", NewTreeKey(EROFS, 1, layersOf(s, d)).ID(), "tree.erofs"))
		},
		"foreign file":   func(s *Store, _ oci.Digest) error { return os.WriteFile(s.path("notes.txt"), nil, 0o644) },
		"foreign object": func(s *Store, _ oci.Digest) error { return os.WriteFile(s.path("objects/ab/x"), nil, 0o644) },
		"foreign layer":  func(s *Store, _ oci.Digest) error { return os.WriteFile(s.path("layers/x"), nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			d := must(pull(s, refA, "a", []string{"content", "other"}))(t)
			sound(t, s)
			ok(t, damage(s, d.Digest))
			problems := must(s.Check(ctx))(t)
			if len(problems) != 1 {
				t.Fatalf("problems: %v", problems)
			}
			t.Log(problems[0])
			if strings.HasPrefix(name, "object") && !strings.Contains(problems[0].Error(), refA+": file /f000000") {
				t.Errorf("the problem does not name image and file: %v", problems[0])
			}
		})
	}
}

func layersOf(s *Store, d oci.Digest) []oci.Digest {
	c, err := s.layout.Content(d)
	if err != nil {
		panic(err)
	}
	return c.Images[0].Layers
}

func TestCheckHold(t *testing.T) {
	s := open(t)
	d := must(pull(s, refA, "a", []string{"content"}))(t)
	ok(t, s.Hold(Hold{ID: "c", Owner: "container c", Manifest: d.Digest, Tree: NewTreeKey(EROFS, 1, layersOf(s, d.Digest)).ID()}, disk.Volatile))
	ok(t, s.RemoveRef(refA, true))
	ok(t, os.Remove(s.objectPath(oci.FromBytes([]byte("content")))))
	ok(t, os.RemoveAll(s.path("trees")))
	ok(t, os.Mkdir(s.path("trees"), 0o755))
	var about []string
	for _, p := range must(s.Check(ctx))(t) {
		about = append(about, p.Op+" "+p.Object)
	}
	slices.Sort(about)
	if got := fmt.Sprint(about); got != "[check hold of container c check image "+string(d.Digest)+"]" {
		t.Errorf("problems with %v", got)
	}
}

func TestSizes(t *testing.T) {
	s := open(t)
	a := must(pull(s, refA, "a", []string{"base", "common"}, []string{"common", "only a"}))(t)
	b := must(pull(s, refB, "b", []string{"base", "common"}, []string{"b"}))(t)
	ok(t, s.SetRef("docker.io/library/c:1", a))
	sizes := must(s.Sizes(ctx))(t)
	if len(sizes) != 2 || sizes[a.Digest] != (ImageSize{16, 6}) || sizes[b.Digest] != (ImageSize{11, 1}) {
		t.Errorf("sizes %v", sizes)
	}
	u := must(s.Usage(ctx))(t)
	if u.Objects != 4 || u.Layers != 3 || u.Trees != 2 || u.Blobs != 4 || u.Bytes < 13*4096+reserveSize {
		t.Errorf("usage %+v", u)
	}
}
