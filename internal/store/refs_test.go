package store

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

const (
	refA = "docker.io/library/a:1"
	refB = "docker.io/library/b:1"
)

// refs is the images as "REF DIGEST", in order, with "-" for no name.
func refs(t testing.TB, s *Store) string {
	t.Helper()
	var list []string
	for _, im := range must(s.Images())(t) {
		name := im.Ref
		if name == "" {
			name = "-"
		}
		list = append(list, name+" "+im.Descriptor.Digest.Short())
	}
	return strings.Join(list, ", ")
}

func wantRefs(t testing.TB, s *Store, want string) {
	t.Helper()
	if got := refs(t, s); got != want {
		t.Errorf("images are %q, want %q", got, want)
	}
}

func TestRefs(t *testing.T) {
	s := open(t)
	_, err := s.Lookup(refA)
	wantKind(t, err, errs.NotFound)
	one := must(pull(s, refA, "one", []string{"x"}))(t)
	wantRefs(t, s, refA+" "+one.Digest.Short())
	got := must(s.Lookup(refA))(t)
	if got.Digest != one.Digest || got.MediaType != oci.TypeManifest || got.Size != one.Size || got.Annotations != nil {
		t.Errorf("looked up %+v", got)
	}
	for _, ref := range []string{"", "docker.io/library/a", "library/a:1", "a:1", `","digest":"`} {
		_, err := s.Lookup(ref)
		wantKind(t, err, errs.NotFound)
	}

	// A second name for the image, and another image for the first name.
	ok(t, s.SetRef(refB, one))
	two := must(pull(s, refA, "two", []string{"x"}))(t)
	wantRefs(t, s, refA+" "+two.Digest.Short()+", "+refB+" "+one.Digest.Short())
	// An image's last name goes: it stays, nameless. It gets a name back: it is named only.
	ok(t, s.SetRef(refB, two))
	wantRefs(t, s, "- "+one.Digest.Short()+", "+refA+" "+two.Digest.Short()+", "+refB+" "+two.Digest.Short())
	ok(t, s.SetRef(refB, one))
	wantRefs(t, s, refA+" "+two.Digest.Short()+", "+refB+" "+one.Digest.Short())
	ok(t, s.SetRef("", one))
	wantRefs(t, s, refA+" "+two.Digest.Short()+", "+refB+" "+one.Digest.Short())

	wantKind(t, s.RemoveRef("docker.io/library/none:1", false), errs.NotFound)
	wantKind(t, s.RemoveRef("", false), errs.NotFound)
	ok(t, s.RemoveRef(refA, false))
	ok(t, s.Remove(one.Digest, false))
	wantRefs(t, s, "")

	// Awkward names are found all the same, whatever JSON makes of them.
	for _, ref := range []string{`a"b`, "a<b>&c", "ü", `a\b`} {
		must(pull(s, ref, ref, nil))(t)
		must(s.Lookup(ref))(t)
	}
	sound(t, s)
}

// TestSetRefIncomplete names images of which something is missing.
func TestSetRefIncomplete(t *testing.T) {
	s := open(t)
	l := lease(t, s)
	x := must(layer(l, "a"))(t)
	c := config("", x.DiffID)
	m := manifest(c, x.DiffID)
	d := descriptor(oci.TypeManifest, m)
	for missing, put := range map[int]func() error{
		0: func() error { return l.PutBlob(d.Digest, m) },
		1: func() error { return l.PutBlob(oci.FromBytes(c), c) },
		2: func() error { return l.PutLayers(ctx, x) },
	} {
		wantKind(t, s.SetRef(refA, d), errs.NotFound)
		if refs(t, s) != "" {
			t.Fatalf("named with %d missing", missing)
		}
		ok(t, put())
	}
	ok(t, s.SetRef(refA, d))
	for _, text := range []string{"", "[]", `{"manifests":[]}`, `{"manifests":7}`, "null", "{}"} {
		b := []byte(text)
		ok(t, l.PutBlob(oci.FromBytes(b), b))
		if err := s.SetRef(refB, descriptor(oci.TypeManifest, b)); err == nil {
			t.Errorf("named a manifest %q", text)
		}
	}
}

// TestIndex pulls one image of a multi-platform index, then a part of another.
func TestIndex(t *testing.T) {
	s := open(t)
	here := must(pull(s, refB, "amd64", []string{"x", "y"}))(t)
	l := lease(t, s)
	partly := manifest(config("arm64", oci.FromBytes(nil)), oci.FromBytes(nil))
	absent := oci.Descriptor{MediaType: oci.TypeManifest, Digest: oci.FromBytes([]byte("absent"))}
	index, _ := json.Marshal(oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{absent, descriptor(oci.TypeManifest, partly), here}})
	d := descriptor(oci.TypeIndex, index)
	ok(t, l.PutBlob(d.Digest, index))
	ok(t, s.SetRef(refA, d))
	ok(t, l.PutBlob(oci.FromBytes(partly), partly))
	ok(t, l.Close())
	ok(t, s.RemoveRef(refB, false))
	must(s.Collect(ctx))(t)
	sound(t, s)
	if !s.HasBlob(here.Digest) || !s.HasBlob(oci.FromBytes(partly)) {
		t.Error("what the index leads to was collected")
	}
	found := must(s.Find(here.Digest.Short()))(t)
	if found.Ref != refA || found.Manifest != here.Digest || found.Descriptor.Digest != d.Digest {
		t.Errorf("found %+v", found)
	}
	// A hold on the image holds the index's name too.
	ok(t, s.Hold(Hold{ID: "c", Owner: "container c", Manifest: here.Digest}, disk.Volatile))
	wantKind(t, s.RemoveRef(refA, false), errs.Busy)
	// With the image that was whole gone, nothing is known of what the index needs.
	ok(t, os.Remove(s.layout.BlobPath(here.Digest)))
	if _, err := s.Collect(ctx); err == nil || !strings.Contains(err.Error(), refA) {
		t.Errorf("collected around a damaged image: %v", err)
	}
}

func TestFind(t *testing.T) {
	s := open(t)
	a := must(pull(s, refA, "a", nil))(t)
	must(pull(s, refB, "b", nil))(t)
	ok(t, s.SetRef("docker.io/library/c:1", a))
	id := must(s.layout.Content(a.Digest))(t).Images[0].Config
	for _, prefix := range []string{id.Hex(), id.Short(), string(id), string(id)[:20], a.Digest.Short(), a.Digest.Hex()[:5]} {
		if found := must(s.Find(prefix))(t); found.Config != id || found.Manifest != a.Digest {
			t.Errorf("%s: found %+v", prefix, found)
		}
	}
	for _, prefix := range []string{"", "sha256", "sha256:", "x", "../", id.Hex() + "0"} {
		_, err := s.Find(prefix)
		wantKind(t, err, errs.NotFound)
	}
	// Enough images that two begin with the same digit.
	for i := range 16 {
		must(pull(s, "docker.io/library/d:"+string(rune('a'+i)), string(rune('A'+i)), nil))(t)
	}
	ambiguous := 0
	for _, digit := range "0123456789abcdef" {
		if _, err := s.Find(string(digit)); errs.Is(err, errs.Invalid) && errs.HintOf(err) != "" {
			ambiguous++
		}
	}
	if ambiguous == 0 {
		t.Error("no digit of 18 images is ambiguous")
	}
}

func TestHold(t *testing.T) {
	s := open(t)
	x := must(pull(s, refA, "a", []string{"x"}))(t)
	must(pull(s, refB, "a", []string{"x"}))(t)
	dir := s.root + "/containers/c1"
	ok(t, os.MkdirAll(dir, 0o755))
	diff := must(s.layout.Content(x.Digest))(t).Images[0].Layers
	h := Hold{ID: "c1", Owner: "container web", Dir: "containers/c1", Manifest: x.Digest, Tree: NewTreeKey(EROFS, 1, diff).ID(), Layers: diff}
	wantKind(t, s.Hold(Hold{ID: "c2", Manifest: oci.FromBytes(nil)}, disk.Volatile), errs.NotFound)
	wantKind(t, s.Hold(Hold{ID: "c2", Tree: oci.FromBytes(nil).Hex()}, disk.Volatile), errs.NotFound)
	wantKind(t, s.Hold(Hold{ID: "c2", Layers: []oci.Digest{oci.FromBytes(nil)}}, disk.Volatile), errs.NotFound)
	for _, d := range []disk.Durability{disk.Durable, disk.Volatile} {
		ok(t, s.Hold(h, d))
		holds := must(s.Holds())(t)
		if len(holds) != 1 || holds[0].text() != h.text() || holds[0].ID != "c1" {
			t.Errorf("holds %+v", holds)
		}
	}
	// Of two names one can go, the last one cannot.
	ok(t, s.RemoveRef(refB, false))
	err := s.RemoveRef(refA, false)
	wantKind(t, err, errs.Busy)
	if !strings.Contains(err.Error(), "container web") || errs.HintOf(err) == "" {
		t.Errorf("message: %v", err)
	}
	ok(t, s.RemoveRef(refA, true))
	wantRefs(t, s, "- "+x.Digest.Short())
	wantKind(t, s.Remove(x.Digest, true), errs.Busy)
	must(s.Collect(ctx))(t)
	sound(t, s)

	// The state directory moves, and with it owner and hold.
	moved := t.TempDir() + "/moved"
	ok(t, os.Rename(s.root, moved))
	s = must(Open(moved))(t)
	if len(must(s.Holds())(t)) != 1 {
		t.Error("the hold was lost in a move")
	}
	// The owner goes without a release; a collection sees it.
	ok(t, os.Remove(moved+"/containers/c1"))
	ok(t, s.Remove(x.Digest, false))
	f := must(s.Collect(ctx))(t)
	if f.Leases != 1 || f.Layers != 1 || f.Objects != 1 || f.Trees != 1 || f.Blobs != 2 || f.Bytes == 0 {
		t.Errorf("freed %+v", f)
	}
	if left := contents(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	ok(t, s.Release("c1"))
}

// TestHoldDamaged has a hold that a power cut emptied, and one from the future.
func TestHoldDamaged(t *testing.T) {
	s := open(t)
	must(pull(s, refA, "a", []string{"x"}))(t)
	for _, text := range []string{"", "\x00\x00\x00", "corten hold 1\nowner"} {
		ok(t, os.WriteFile(s.path("leases", "c.hold"), []byte(text), 0o644))
		if got := must(s.Holds())(t); len(got) != 0 {
			t.Errorf("%q: holds %v", text, got)
		}
		if f := must(s.Collect(ctx))(t); f.Leases != 1 {
			t.Errorf("%q: freed %+v", text, f)
		}
	}
	for _, text := range []string{"corten hold 2\nend\n", "corten hold 1\nsomething new\nend\n", "corten hold 1\nmanifest ../x\nend\n"} {
		ok(t, os.WriteFile(s.path("leases", "c.hold"), []byte(text), 0o644))
		_, err := s.Collect(ctx)
		wantKind(t, err, errs.Corrupt)
		wantKind(t, s.RemoveRef(refA, false), errs.Corrupt)
	}
	if !s.HasObject(oci.FromBytes([]byte("x"))) {
		t.Error("collected beside a hold that could not be read")
	}
}

// FuzzHold reads any bytes as a hold: what is accepted comes back as it was.
func FuzzHold(f *testing.F) {
	f.Add(Hold{Owner: "container a", Dir: "containers/a", Manifest: oci.FromBytes(nil), Tree: oci.FromBytes(nil).Hex(), Layers: []oci.Digest{oci.FromBytes(nil)}}.text())
	f.Add("corten hold 1\nend\n")
	f.Add("corten hold 1\nlayer sha256:../../x\nend\n")
	f.Fuzz(func(t *testing.T, text string) {
		body, whole := strings.CutSuffix(text, holdEnd)
		h := Hold{ID: "a"}
		if !whole || !h.parse(body) || h.check() != nil {
			return
		}
		again := Hold{ID: "a"}
		body, _ = strings.CutSuffix(h.text(), holdEnd)
		if !again.parse(body) || again.text() != h.text() {
			t.Errorf("%q came back as %q", h.text(), again.text())
		}
	})
}
