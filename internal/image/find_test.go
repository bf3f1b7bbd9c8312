package image_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/testimage"
)

// shelf is a library with two images: shelf/one, also known as other:1, and shelf/two.
func shelf(t *testing.T) (l *library, one, two image.Image) {
	t.Helper()
	host := testimage.Registry(t)
	testimage.True(t).Push(t, host, "shelf/one:1")
	testimage.Build(t, oci.Config{Labels: map[string]string{"tier": "two", "empty": ""}}, testimage.Layer{Files: []testimage.File{{Name: "f", Data: []byte("some content")}}}).
		Push(t, host, "shelf/two:2")
	l = newLibrary(t, "dir")
	one, two = l.pull(t, host+"/shelf/one:1"), l.pull(t, host+"/shelf/two:2")
	if err := l.Tag(one.Ref, ref(t, "other:1")); err != nil {
		t.Fatal(err)
	}
	return l, one, two
}

func TestFind(t *testing.T) {
	l, one, two := shelf(t)
	tagged := ref(t, "cafe") // a name that could be an identifier
	if err := l.Tag(two.Ref, tagged); err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(one.Ref, "/")
	for name, want := range map[string]oci.Digest{
		one.Ref:                     one.ID,
		"other:1":                   one.ID,
		"docker.io/library/other:1": one.ID,
		string(one.ID):              one.ID,
		one.ID.Hex():                one.ID,
		one.ID.Short():              one.ID,
		string(two.ID)[:20]:         two.ID,
		string(one.Manifest):        one.ID,
		"cafe":                      two.ID,
		host + "/shelf/one@" + string(one.Manifest): one.ID, // never pulled by digest
		"other@" + string(one.Manifest):             one.ID,
		"other:9@" + string(one.Manifest):           one.ID,
	} {
		x, err := l.Find(name, nil)
		if err != nil || x.ID != want {
			t.Errorf("%s is %s, %v", name, x.ID, err)
		}
	}
	for name, kind := range map[string]errs.Kind{
		"other":                             errs.NotFound, // :latest
		"nobody/knows:this":                 errs.NotFound,
		"beef":                              errs.NotFound,
		strings.Repeat("0", 64):             errs.NotFound,
		"sha256:" + strings.Repeat("0", 64): errs.NotFound,
		"two@" + string(one.Manifest):       errs.NotFound, // another repository's digest
		"":                                  errs.Invalid,
		"Capital":                           errs.Invalid,
	} {
		if x, err := l.Find(name, nil); !errs.Is(err, kind) {
			t.Errorf("%q is %s, %v of kind %v", name, x.ID, err, errs.KindOf(err))
		}
	}
}

// lines are the names and sizes of a list.
func lines(list []image.Summary) []string {
	var out []string
	for _, s := range list {
		name := "<none>"
		if s.Image.Ref != "" {
			name = s.Ref.Familiar()
			if _, rest, ok := strings.Cut(name, "/shelf/"); ok {
				name = "shelf/" + rest
			}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestList(t *testing.T) {
	l, one, two := shelf(t)
	yes, no := true, false
	for name, c := range map[string]struct {
		filter image.Filter
		want   []string
	}{
		"all":            {image.Filter{}, []string{"other:1", "shelf/one:1", "shelf/two:2"}},
		"name":           {image.Filter{References: []string{"other"}}, []string{"other:1"}},
		"name and tag":   {image.Filter{References: []string{"other:1"}}, []string{"other:1"}},
		"full name":      {image.Filter{References: []string{"docker.io/library/other"}}, []string{"other:1"}},
		"other tag":      {image.Filter{References: []string{"other:2"}}, nil},
		"pattern":        {image.Filter{References: []string{"*/shelf/t*"}}, []string{"shelf/two:2"}},
		"either":         {image.Filter{References: []string{"other", "*/*/two"}}, []string{"other:1", "shelf/two:2"}},
		"label":          {image.Filter{Labels: []string{"tier"}}, []string{"shelf/two:2"}},
		"label value":    {image.Filter{Labels: []string{"tier=two", "empty"}}, []string{"shelf/two:2"}},
		"wrong value":    {image.Filter{Labels: []string{"tier=three"}}, nil},
		"not dangling":   {image.Filter{Dangling: &no}, []string{"other:1", "shelf/one:1", "shelf/two:2"}},
		"dangling":       {image.Filter{Dangling: &yes}, nil},
		"before":         {image.Filter{Before: "other:1"}, nil}, // all are of one moment
		"since":          {image.Filter{Since: "other:1"}, nil},
		"long ago":       {image.Filter{Until: testimage.Created().Add(-time.Hour)}, nil},
		"until recently": {image.Filter{Until: testimage.Created().Add(time.Hour)}, []string{"other:1", "shelf/one:1", "shelf/two:2"}},
	} {
		list, err := l.List(t.Context(), c.filter)
		if diff := cmp.Diff(c.want, lines(list)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	list, err := l.List(t.Context(), image.Filter{References: []string{"*/*/two"}})
	if err != nil || len(list) != 1 || list[0].Size != int64(len("some content")) || !list[0].Image.Created.Equal(testimage.Created()) {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := l.List(t.Context(), image.Filter{Since: "nobody"}); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := l.List(t.Context(), image.Filter{References: []string{"[a"}}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	_, _ = one, two
}

func TestParseFilter(t *testing.T) {
	now := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	yes := true
	got, err := image.ParseFilter([]string{"reference=a", "reference=b*", "dangling=true", "label=x=y", "before=i", "since=j", "until=24h"}, now)
	want := image.Filter{References: []string{"a", "b*"}, Dangling: &yes, Labels: []string{"x=y"}, Before: "i", Since: "j", Until: now.Add(-24 * time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "dangling", "dangling=perhaps", "until=soon", "colour=red"} {
		if _, err := image.ParseFilter([]string{bad}, now); !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRemove(t *testing.T) {
	l, one, two := shelf(t)
	check := func(what string, r image.Removed, err error, untagged, deleted int) {
		t.Helper()
		if err != nil || len(r.Untagged) != untagged || len(r.Deleted) != deleted {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	if _, err := l.Remove(one.ID.Short(), false); !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), "other:1") {
		t.Errorf("an image of two names was removed: %v", err)
	}
	r, err := l.Remove("other:1", false)
	check("one of two names", r, err, 1, 0)
	if _, err := l.Remove("other:1", false); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	r, err = l.Remove(one.Ref, false)
	check("the last name", r, err, 1, 1)
	r, err = l.Remove(two.ID.Hex()[:7], false)
	check("by identifier", r, err, 1, 1)
	freed, err := l.Collect(t.Context())
	if err != nil || freed.Layers != 2 || freed.Trees != 2 {
		t.Errorf("freed %+v, %v", freed, err)
	}
	if l.count(t) != 0 {
		t.Error("something is left")
	}
	l.sound(t)
}

func TestRemoveWithForce(t *testing.T) {
	l, one, _ := shelf(t)
	r, err := l.Remove(one.ID.Short(), true)
	if err != nil || len(r.Untagged) != 2 || !slices.Equal(r.Deleted, []oci.Digest{one.ID}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRemoveWhatIsInUse(t *testing.T) {
	l, _, two := shelf(t)
	tr, _, err := l.Tree(two)
	if err != nil {
		t.Fatal(err)
	}
	hold := store.Hold{ID: "0123", Owner: "container web", Manifest: two.Manifest, Tree: tr.ID}
	if err := l.Store().Hold(hold, disk.Volatile); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{two.Ref, two.ID.Short()} {
		if _, err := l.Remove(name, false); !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), "container web") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := l.List(t.Context(), image.Filter{References: []string{"*/*/two"}}); err != nil || list[0].Containers != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	// By force the name goes, and what the container needs stays.
	r, err := l.Remove(two.Ref, true)
	if err != nil || len(r.Untagged) != 1 || len(r.Deleted) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := l.Prune(t.Context(), true, image.Filter{}); err != nil {
		t.Error(err)
	}
	if _, err := l.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if _, ok, err := l.Tree(two); !ok || err != nil {
		t.Errorf("the container's tree is gone: %v", err)
	}
	if err := l.Store().Release("0123"); err != nil {
		t.Error(err)
	}
	if r, err := l.Prune(t.Context(), false, image.Filter{}); err != nil || !slices.Equal(r.Deleted, []oci.Digest{two.ID}) {
		t.Errorf("%+v, %v", r, err)
	}
	if l.count(t) != 0 {
		t.Error("something is left")
	}
	l.sound(t)
}

func TestTag(t *testing.T) {
	l, one, two := shelf(t)
	if err := l.Tag(one.ID.Short(), ref(t, "new")); err != nil {
		t.Error(err)
	}
	if x, err := l.Find("new:latest", nil); err != nil || x.ID != one.ID {
		t.Error(x.ID, err)
	}
	if err := l.Tag(two.Ref, ref(t, "new")); err != nil {
		t.Error(err)
	}
	if x, err := l.Find("new", nil); err != nil || x.ID != two.ID {
		t.Error(x.ID, err)
	}
	if err := l.Tag("nobody", ref(t, "x")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if err := l.Tag("new", ref(t, "x@"+string(one.Manifest))); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestInspect(t *testing.T) {
	host := testimage.Registry(t)
	im := testimage.Configured(t)
	im.Push(t, host, "app:1")
	l := newLibrary(t, "dir")
	x := l.pull(t, host+"/app:1")
	if err := l.Tag(x.Ref, ref(t, "mine:2")); err != nil {
		t.Fatal(err)
	}
	d, err := l.Inspect(t.Context(), "mine:2", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.ID != x.ID || d.OS != "linux" || d.Config.User == "" || d.Config.Healthcheck == nil || d.Size == 0 || len(d.RootFS.Layers) != 2 ||
		!d.Created.Equal(testimage.Created()) {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{host + "/app:1", "mine:2"}, d.RepoTags); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{host + "/app@" + string(x.Manifest), "mine@" + string(x.Manifest)}, d.RepoDigests); diff != "" {
		t.Error(diff)
	}
}

// An image that a disk damaged does not hide the others, and can be removed.
func TestDamagedImage(t *testing.T) {
	l, one, two := shelf(t)
	breakBlob(t, l, two.ID)
	list, err := l.List(t.Context(), image.Filter{})
	if !errs.Is(joined(err), errs.Corrupt) {
		t.Errorf("the damage was not told: %v", err)
	}
	if diff := cmp.Diff([]string{"other:1", "shelf/one:1"}, lines(list)); diff != "" {
		t.Error(diff)
	}
	if _, err := l.Find(two.Ref, nil); !errs.Is(err, errs.Corrupt) {
		t.Error(err)
	}
	if r, err := l.Remove(two.Ref, false); err != nil || len(r.Untagged) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := l.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	l.sound(t)
	_ = one
}
