package volume_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/volume"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, root, name string) *volume.Volume {
	t.Helper()
	v, err := volume.Open(t.Context(), root, name, "maker")
	ok(t, err)
	return v
}

func write(t testing.TB, v *volume.Volume, name, text string) {
	t.Helper()
	ok(t, os.WriteFile(filepath.Join(v.Data(), name), []byte(text), 0o600))
}

func names(path ...string) []string {
	entries, _ := os.ReadDir(filepath.Join(path...))
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestLife follows a volume from its first user, who fills it, to its removal.
func TestLife(t *testing.T) {
	for _, copied := range []bool{false, true} {
		root := t.TempDir()
		v := open(t, root, "data")
		if !v.New() || v.Data() != filepath.Join(volume.Dir(root, "data"), "_data") {
			t.Errorf("first: new %v, at %s", v.New(), v.Data())
		}
		write(t, v, "f", "content")
		ok(t, v.Filled(copied))
		if v.New() {
			t.Error("new when filled")
		}
		ok(t, v.Filled(copied)) // again is no harm
		ok(t, v.Close())
		v = open(t, root, "data")
		if v.New() || !slices.Equal(names(v.Data()), []string{"f"}) {
			t.Errorf("second: new %v, has %v", v.New(), names(v.Data()))
		}
		ok(t, v.Close())
		ok(t, volume.Remove(root, "data"))
		ok(t, volume.Remove(root, "data"))
		if got := names(root, "volumes"); len(got) > 0 {
			t.Errorf("left: %v", got)
		}
	}
}

// TestCutShort throws away what a user has copied who did not come to the end.
func TestCutShort(t *testing.T) {
	root := t.TempDir()
	v := open(t, root, "data")
	write(t, v, "half", "con")
	ok(t, v.Close()) // as death does
	v = open(t, root, "data")
	if !v.New() || len(names(v.Data())) > 0 {
		t.Errorf("new %v, has %v", v.New(), names(v.Data()))
	}
	ok(t, os.RemoveAll(v.Data())) // as one leaves it who is killed right here
	ok(t, v.Close())
	if v = open(t, root, "data"); !v.New() {
		t.Error("not new")
	}
	ok(t, v.Filled(false))
}

// TestModes opens the data to all users of containers whatever the umask, and its folder to
// none of the host's.
func TestModes(t *testing.T) {
	root := t.TempDir()
	old := unix.Umask(0o077)
	v := open(t, root, "data")
	unix.Umask(old)
	defer v.Close()
	for dir, want := range map[string]os.FileMode{filepath.Join(root, "volumes"): 0o700, filepath.Dir(v.Data()): 0o755, v.Data(): 0o755} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

func TestNames(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a", "A0_.-", "0", strings.Repeat("x", 200)} {
		ok(t, open(t, root, name).Filled(false))
	}
	for _, name := range []string{"", ".", "..", "-a", ".new-maker", "a/b", "a b", "ä", "a\n", "a\x00"} {
		if _, err := volume.Open(t.Context(), root, name, "maker"); !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestOneFills has many want a new volume at once: one at a time fills it, until one has.
func TestOneFills(t *testing.T) {
	root := t.TempDir()
	var inside, fillers atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			v, err := volume.Open(t.Context(), root, "data", fmt.Sprint("maker", i))
			if err != nil {
				t.Error(err)
				return
			}
			if !v.New() {
				if got := names(v.Data()); !slices.Equal(got, []string{"done"}) {
					t.Errorf("opened with %v", got)
				}
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two fill it")
			}
			if got := names(v.Data()); len(got) > 0 {
				t.Errorf("new with %v", got)
			}
			if fillers.Add(1) < 3 {
				write(t, v, "half", "")
				inside.Add(-1)
				_ = v.Close() // the first two die over it
				return
			}
			write(t, v, "done", "")
			inside.Add(-1)
			if err := v.Filled(true); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := fillers.Load(); n != 3 {
		t.Errorf("%d filled it", n)
	}
	if got := names(root, "volumes"); !slices.Equal(got, []string{"data"}) {
		t.Errorf("left: %v", got)
	}
}

// TestWait ends when the caller gives up, or when the volume is removed meanwhile.
func TestWait(t *testing.T) {
	root := t.TempDir()
	v := open(t, root, "data")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := volume.Open(ctx, root, "data", "other"); !errs.Is(err, errs.Canceled) {
		t.Errorf("given up: %v", err)
	}
	second := make(chan *volume.Volume)
	go func() {
		w, err := volume.Open(t.Context(), root, "data", "other")
		if err != nil {
			t.Error(err)
		}
		second <- w
	}()
	ok(t, volume.Remove(root, "data"))
	ok(t, open(t, root, "data").Filled(false)) // another one, of the same name
	ok(t, v.Close())
	if w := <-second; w != nil {
		if _, err := os.Stat(w.Data()); err != nil {
			t.Error(err)
		}
		ok(t, w.Close())
	}
}

// TestForget removes what a maker left half-made, and nothing else.
func TestForget(t *testing.T) {
	root := t.TempDir()
	ok(t, volume.Forget(root, "dead"))
	ok(t, open(t, root, "data").Filled(false))
	for _, maker := range []string{"dead", "alive"} {
		ok(t, os.MkdirAll(filepath.Join(root, "volumes", ".new-"+maker, "_data"), 0o755))
	}
	ok(t, volume.Forget(root, "dead"))
	if got := names(root, "volumes"); !slices.Equal(got, []string{".new-alive", "data"}) {
		t.Errorf("left: %v", got)
	}
}

func TestNoFolder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(root, nil, 0o600))
	if _, err := volume.Open(t.Context(), root, "data", "maker"); err == nil || !strings.Contains(err.Error(), "open volume data") {
		t.Errorf("below a file: %v", err)
	}
	root = t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(root, "volumes", "data"), 0o755)) // somebody made it by hand
	v := open(t, root, "data")
	if v.New() {
		t.Error("new")
	}
}
