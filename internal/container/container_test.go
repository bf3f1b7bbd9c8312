package container_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func folders(t testing.TB) container.Dirs {
	t.Helper()
	dir := t.TempDir()
	return container.Dirs{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}
}

// names lists a folder; nothing if it is missing.
func names(path ...string) []string {
	entries, _ := os.ReadDir(filepath.Join(path...))
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func described(name string, remove bool) *spec.Container {
	return &spec.Container{ID: container.NewID(), Name: name, Life: spec.Life{Remove: remove}}
}

func create(t testing.TB, dirs container.Dirs, c *spec.Container) *container.Container {
	t.Helper()
	x, err := container.Create(dirs, c, nil, container.Tied)
	ok(t, err)
	return x
}

// undone records what a sweep asked others to undo.
type undone struct {
	groups, volumes []string
	makers, cut     []spec.ContainerID
	fail            error
}

func (u *undone) undo() container.Undo {
	return container.Undo{
		KillGroups: func(dirs []string) error {
			u.groups = append(u.groups, dirs...)
			return u.fail
		},
		Disconnect: func(id spec.ContainerID) error {
			u.cut = append(u.cut, id)
			return nil
		},
		RemoveVolumes: func(maker spec.ContainerID, names []string) error {
			u.makers, u.volumes = append(u.makers, maker), append(u.volumes, names...)
			return nil
		},
	}
}

func sweep(t testing.TB, dirs container.Dirs) *undone {
	t.Helper()
	u := &undone{}
	ok(t, container.Sweep(dirs, u.undo()))
	return u
}

// TestLife follows a container that is kept from its creation to its end.
func TestLife(t *testing.T) {
	dirs := folders(t)
	c := described("web", false)
	x := create(t, dirs, c)
	if got := names(dirs.Run, "active"); !slices.Equal(got, []string{string(c.ID)}) {
		t.Errorf("active: %v", got)
	}
	if holder, err := container.ReadLink(filepath.Join(dirs.Root, "names", "web")); err != nil || holder != c.ID {
		t.Errorf("the name leads to %q, %v", holder, err)
	}
	if got := names(x.Dir()); !slices.Equal(got, []string{"upper", "work"}) {
		t.Errorf("directory: %v", got)
	}
	c.Process.Args = []string{"sleep", "1"}
	ok(t, x.Save())
	ok(t, x.SetState(container.State{Status: container.Running, PID: 7, Started: time.Unix(1, 0)}))
	sweep(t, dirs) // has nothing to do with who lives
	back, err := container.ReadSpec(dirs, c.ID)
	ok(t, err)
	if back.Name != "web" || !slices.Equal(back.Process.Args, c.Process.Args) {
		t.Errorf("read back: %+v", back)
	}
	ok(t, x.SetState(container.State{Status: container.Exited, ExitCode: 3}))
	ok(t, x.Unlock())
	st, err := container.ReadState(dirs, c.ID)
	ok(t, err)
	if st.Status != container.Exited || st.ExitCode != 3 || st.Version != spec.Version {
		t.Errorf("state: %+v", st)
	}
	if u := sweep(t, dirs); len(u.makers) > 0 {
		t.Errorf("what has ended was swept: %+v", u)
	}
	if got := names(dirs.Run, "active"); len(got) > 0 {
		t.Errorf("active after the end: %v", got)
	}
	if got := names(x.Dir()); !slices.Equal(got, []string{"spec.json", "state.json", "upper", "work"}) {
		t.Errorf("directory after the end: %v", got)
	}
	ok(t, x.Unlock()) // again is no harm
}

func TestRemove(t *testing.T) {
	dirs := folders(t)
	ok(t, os.MkdirAll(filepath.Join(dirs.Root, "gone"), 0o700))
	c := described("web", true)
	x := create(t, dirs, c)
	ok(t, x.Save())
	ok(t, x.Remove())
	for _, place := range []string{"containers", "names"} {
		if got := names(dirs.Root, place); len(got) > 0 {
			t.Errorf("%s: %v", place, got)
		}
	}
	if got := names(dirs.Run, "active"); len(got) > 0 {
		t.Errorf("active: %v", got)
	}
	if got := names(dirs.Root, "gone"); !slices.Equal(got, []string{string(c.ID)}) {
		t.Errorf("a container that wrote nothing waits for the next start: %v", got)
	}
	container.ForgetGone(dirs, func() bool { return true })
	if got := names(dirs.Root, "gone"); len(got) != 1 {
		t.Errorf("removed while there was better to do: %v", got)
	}
	container.ForgetGone(dirs, func() bool { return false })
	if got := names(dirs.Root, "gone"); len(got) > 0 {
		t.Errorf("gone: %v", got)
	}
}

// TestRemoveLarge removes at once what takes space.
func TestRemoveLarge(t *testing.T) {
	for name, fill := range map[string]func(upper string) error{
		"bytes": func(upper string) error { return os.WriteFile(filepath.Join(upper, "f"), make([]byte, 1<<20), 0o600) },
		"files": func(upper string) error {
			for i := range 100 {
				if err := os.MkdirAll(filepath.Join(upper, "d", fmt.Sprint(i)), 0o700); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := folders(t)
			x := create(t, dirs, described("web", true))
			ok(t, fill(filepath.Join(x.Dir(), "upper")))
			x.Hide()
			if _, err := os.Stat(x.Dir()); err != nil {
				t.Errorf("hidden though it takes space: %v", err)
			}
			ok(t, x.Remove())
			if got := slices.Concat(names(dirs.Root, "containers"), names(dirs.Root, "gone")); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
		})
	}
}

// TestManyGone does not let removed containers pile up.
func TestManyGone(t *testing.T) {
	dirs := folders(t)
	for i := range 100 {
		x := create(t, dirs, described("web", true))
		if i%2 == 0 {
			x.Hide()
		}
		ok(t, x.Remove())
	}
	if n := len(names(dirs.Root, "gone")); n == 0 || n > 64 {
		t.Errorf("%d wait", n)
	}
}

func TestLockIsOne(t *testing.T) {
	dirs := folders(t)
	c := described("web", true)
	x := create(t, dirs, c)
	if _, err := container.Create(dirs, c, nil, container.Tied); !errs.Is(err, errs.Busy) {
		t.Errorf("a second container of that id: %v", err)
	}
	if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"web"}) {
		t.Errorf("the second took the name away: %v", got)
	}
	ok(t, x.Remove())
}

// TestDirectoryModes makes the directory of the container's root open whatever the umask.
func TestDirectoryModes(t *testing.T) {
	dirs := folders(t)
	x := create(t, dirs, described("web", true))
	for dir, want := range map[string]os.FileMode{
		x.Dir(): 0o700, filepath.Join(x.Dir(), "upper"): 0o755, filepath.Join(dirs.Root, "names"): 0o700, filepath.Join(dirs.Run, "active"): 0o700,
	} {
		info, err := os.Stat(dir)
		ok(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", dir, info.Mode().Perm(), want)
		}
	}
}

func TestNames(t *testing.T) {
	dirs := folders(t)
	first := create(t, dirs, described("web", true))
	second := described("web", true)
	_, err := container.Create(dirs, second, nil, container.Tied)
	if !errs.Is(err, errs.Exists) || !strings.Contains(err.Error(), first.Spec.ID.Short()) || errs.HintOf(err) == "" {
		t.Errorf("a taken name: %v", err)
	}
	if got := names(dirs.Root, "containers"); !slices.Equal(got, []string{string(first.Spec.ID)}) {
		t.Errorf("the second left something: %v", got)
	}
	ok(t, first.Remove())
	x := create(t, dirs, second)
	ok(t, os.RemoveAll(x.Dir())) // a name without a directory is free
	y := create(t, dirs, described("web", true))
	ok(t, x.Remove())
	if holder, _ := container.ReadLink(filepath.Join(dirs.Root, "names", "web")); holder != y.Spec.ID {
		t.Errorf("removing the former holder freed the name, or gave it to %q", holder)
	}
}

// TestNameOfDead has many find a name whose holder is gone: one gets it, each time.
func TestNameOfDead(t *testing.T) {
	dirs := folders(t)
	for range 50 {
		ok(t, os.MkdirAll(filepath.Join(dirs.Root, "names"), 0o700))
		ok(t, os.Symlink(string(container.NewID()), filepath.Join(dirs.Root, "names", "web")))
		var won atomic.Pointer[container.Container]
		var n atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				x, err := container.Create(dirs, described("web", true), nil, container.Tied)
				if err == nil {
					won.Store(x)
					n.Add(1)
				} else if !errs.Is(err, errs.Exists) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n.Load() != 1 {
			t.Fatalf("%d have the name", n.Load())
		}
		ok(t, won.Load().Remove())
	}
}

// rivals are ids of containers that would all have the same range.
func rivals(n int) (ids []spec.ContainerID) {
	for i := 0; len(ids) < n; i++ {
		if id := spec.ContainerID(fmt.Sprintf("%064x", i)); len(ids) == 0 || container.LikelyIDs(id) == container.LikelyIDs(ids[0]) {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestIDs(t *testing.T) {
	dirs := folders(t)
	id, other := rivals(2)[0], rivals(2)[1]
	first, err := container.ClaimIDs(dirs, id)
	ok(t, err)
	if first != container.LikelyIDs(id) || first < 1<<30 || first%65536 != 0 {
		t.Errorf("range at %d, the likely one is at %d", first, container.LikelyIDs(id))
	}
	second, err := container.ClaimIDs(dirs, other)
	ok(t, err)
	if second == first {
		t.Error("a range twice")
	}
	ok(t, container.ReleaseIDs(dirs, container.NewID(), first)) // is not its
	if n := len(names(dirs.Run, "ids")); n != 2 {
		t.Errorf("%d claims", n)
	}
	ok(t, container.ReleaseIDs(dirs, id, first))
	ok(t, container.ReleaseIDs(dirs, id, first))
	third, err := container.ClaimIDs(dirs, id)
	ok(t, err)
	if third != first {
		t.Errorf("the range given back at %d is not used again", first)
	}
}

// TestIDsRunOut fills all ranges.
func TestIDsRunOut(t *testing.T) {
	dirs := folders(t)
	ids := filepath.Join(dirs.Run, "ids")
	ok(t, os.MkdirAll(ids, 0o700))
	for i := range 12288 {
		if i != 5000 {
			ok(t, os.Symlink("x", filepath.Join(ids, fmt.Sprint(i))))
		}
	}
	host, err := container.ClaimIDs(dirs, container.NewID())
	ok(t, err)
	if host != 1<<30+5000*65536 || uint64(host)+65535 > 1<<31-1 {
		t.Errorf("the last range is at %d", host)
	}
	if _, err := container.ClaimIDs(dirs, container.NewID()); !errs.Is(err, errs.NoSpace) || errs.HintOf(err) == "" {
		t.Errorf("when all are taken: %v", err)
	}
}

func TestClaimsAtOnce(t *testing.T) {
	dirs := folders(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint32]bool{}
	for _, id := range rivals(32) {
		all.Go(func() {
			host, err := container.ClaimIDs(dirs, id)
			again, aerr := container.ClaimIDs(dirs, id) // as a start does after one that was killed
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[host] || again != host || aerr != nil {
				t.Errorf("range at %d (others have it: %v, claimed again: %d), %v, %v", host, seen[host], again, err, aerr)
			}
			seen[host] = true
		})
	}
	all.Wait()
}

func TestMaps(t *testing.T) {
	m := func(list ...uint32) (out []spec.IDMap) {
		for i := 0; i < len(list); i += 3 {
			out = append(out, spec.IDMap{Container: list[i], Host: list[i+1], Size: list[i+2]})
		}
		return out
	}
	const host = 1 << 30
	for id, want := range map[uint32][]spec.IDMap{
		0:         m(0, 0, 1, 1, host+1, 65535),
		1000:      m(0, host, 1000, 1000, 1000, 1, 1001, host+1001, 64535),
		65535:     m(0, host, 65535, 65535, 65535, 1),
		65536:     m(0, host, 65536, 65536, 65536, 1),
		1_000_000: m(0, host, 65536, 1_000_000, 1_000_000, 1),
	} {
		if got := container.KeepMap(host, id); !slices.Equal(got, want) {
			t.Errorf("keep %d: %v, want %v", id, got, want)
		}
	}
	if got := container.Map(host); !slices.Equal(got, m(0, host, 65536)) {
		t.Errorf("map: %v", got)
	}
}

func TestReadSpecOfAnother(t *testing.T) {
	dirs := folders(t)
	x := create(t, dirs, described("web", true))
	path := filepath.Join(x.Dir(), "spec.json")
	ok(t, os.WriteFile(path, []byte(`{"version":99}`), 0o600))
	if _, err := container.ReadSpec(dirs, x.Spec.ID); !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Errorf("of a newer version: %v", err)
	}
	ok(t, os.WriteFile(path, []byte(`{`), 0o600))
	if _, err := container.ReadSpec(dirs, x.Spec.ID); err == nil {
		t.Error("half a file is read")
	}
	if _, err := container.ReadSpec(dirs, container.NewID()); !errs.Is(err, errs.NotFound) {
		t.Errorf("of no container: %v", err)
	}
	if _, err := container.ReadState(dirs, container.NewID()); !errs.Is(err, errs.NotFound) {
		t.Errorf("state of no container: %v", err)
	}
}

func TestFullFolders(t *testing.T) {
	dirs := folders(t)
	ok(t, os.WriteFile(dirs.Root, nil, 0o600))
	if _, err := container.Create(dirs, described("web", true), nil, container.Tied); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("root is a file: %v", err)
	}
	if got := names(dirs.Run, "active"); len(got) > 0 {
		t.Errorf("active: %v", got)
	}
	dirs = folders(t)
	ok(t, os.WriteFile(dirs.Run, nil, 0o600))
	if _, err := container.Create(dirs, described("web", true), nil, container.Tied); err == nil {
		t.Error("run is a file")
	}
	if _, err := container.ClaimIDs(dirs, container.NewID()); err == nil {
		t.Error("ids: run is a file")
	}
	if err := container.Sweep(dirs, (&undone{}).undo()); err == nil {
		t.Error("sweep: run is a file")
	}
}
