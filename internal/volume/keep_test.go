package volume_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/quota"
	"github.com/cortenhq/corten/internal/volume"
)

func nobody() error { return nil }

func TestCreate(t *testing.T) {
	root := t.TempDir()
	made, err := volume.Create(root, "data", map[string]string{"a": "b"}, 0)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	made, err = volume.Create(root, "data", map[string]string{"a": "c"}, 0)
	if err != nil || made {
		t.Fatal("made twice", err)
	}
	ok(t, open(t, root, "other").Filled(false))
	list, err := volume.List(root)
	ok(t, err)
	if len(list) != 2 || list[0].Name != "data" || list[0].Labels["a"] != "b" || list[1].Name != "other" || list[1].Labels != nil {
		t.Errorf("%+v", list)
	}
	for _, i := range list {
		if i.Created.IsZero() || i.Anonymous() {
			t.Errorf("%+v", i)
		}
		if _, err := os.Stat(i.Mountpoint); err != nil {
			t.Error(err)
		}
	}
	if _, err := volume.Find(root, "nobody"); !errs.Is(err, errs.NotFound) || errs.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err := volume.Create(root, "../x", nil, 0); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if i := (volume.Info{Name: volume.NewName()}); !i.Anonymous() {
		t.Error("not anonymous")
	}
}

// A volume that was made by itself gets its first content from its first user, unless
// somebody has put files into it.
func TestFirstUserOfCreated(t *testing.T) {
	root := t.TempDir()
	_, err := volume.Create(root, "data", nil, 0)
	ok(t, err)
	v := open(t, root, "data")
	if !v.New() {
		t.Error("the first user has not to fill it")
	}
	write(t, v, "half", "con")
	ok(t, v.Close()) // cut short
	v = open(t, root, "data")
	if !v.New() || len(names(v.Data())) > 0 {
		t.Errorf("new %v, has %v", v.New(), names(v.Data()))
	}
	ok(t, v.Close())

	_, err = volume.Create(root, "own", nil, 0)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(volume.Dir(root, "own"), "_data", "mine"), nil, 0o600))
	v = open(t, root, "own")
	if v.New() || !slices.Equal(names(v.Data()), []string{"mine"}) {
		t.Errorf("new %v, has %v", v.New(), names(v.Data()))
	}
	ok(t, v.Close())
}

func TestDelete(t *testing.T) {
	root := t.TempDir()
	v := open(t, root, "data")
	ok(t, v.Filled(false))
	if err := volume.Delete(root, "data", nobody); !errs.Is(err, errs.Busy) || errs.HintOf(err) == "" {
		t.Error("removed while a container was being made with it", err)
	}
	ok(t, v.Close())
	used := errors.New("used")
	if err := volume.Delete(root, "data", func() error { return used }); err != used {
		t.Error(err)
	}
	ok(t, volume.Delete(root, "data", nobody))
	if got := names(root, "volumes"); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	for _, name := range []string{"data", "..", ""} {
		if err := volume.Delete(root, name, nobody); !errs.Is(err, errs.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Whoever opens a volume has one that stays, however many remove it at the same time.
func TestOpenAndDelete(t *testing.T) {
	root := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				v, err := volume.Open(t.Context(), root, "data", volume.NewName())
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(v.Data(), "f"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := errors.Join(v.Filled(false), v.Close()); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 100 {
				err := volume.Delete(root, "data", nobody)
				if err != nil && !errs.Is(err, errs.Busy) && !errs.Is(err, errs.NotFound) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, n := range names(root, "volumes") {
		if strings.HasPrefix(n, ".") {
			t.Errorf("left: %s", n)
		}
	}
}

// A size that nothing would hold a volume to is refused, and nothing is made.
func TestSizeIsNotIgnored(t *testing.T) {
	root := t.TempDir()
	if quota.Check(root) == nil {
		t.Skip("needs TMPDIR on a file system without project quotas")
	}
	if made, err := volume.Create(root, "data", nil, 1<<20); made || !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Error(made, err)
	}
	if _, err := volume.Find(root, "data"); !errs.Is(err, errs.NotFound) {
		t.Error("it was made:", err)
	}
	if _, err := volume.Create(root, "data", nil, 0); err != nil {
		t.Fatal(err)
	}
	// It had a size where the folder was before: it must not be used without.
	if err := os.WriteFile(filepath.Join(volume.Dir(root, "data"), "volume.json"), []byte(`{"version":1,"size":1048576}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Open(t.Context(), root, "data", "test"); !errs.Is(err, errs.Unsupported) {
		t.Error("it was used without its limit:", err)
	}
	if err := volume.Delete(root, "data", func() error { return nil }); err != nil {
		t.Error(err)
	}
}
