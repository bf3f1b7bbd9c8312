package quota

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
)

// folder is a state folder with owners, where quotas are on.
func folder(t *testing.T, owners ...string) string {
	t.Helper()
	root := t.TempDir()
	if err := Check(root); errs.Is(err, errs.Unsupported) {
		t.Skip("needs TMPDIR on ext4 or XFS mounted with prjquota: " + err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	for _, o := range owners {
		ok(t, os.MkdirAll(filepath.Join(root, o, "upper"), 0o755))
	}
	return root
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func upper(root, owner string) []string { return []string{filepath.Join(root, owner, "upper")} }

// claims is the claims of a state folder: number to target.
func claims(t *testing.T, root string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "projects"))
	ok(t, err)
	m := map[string]string{}
	for _, e := range entries {
		m[e.Name()], err = os.Readlink(filepath.Join(root, "projects", e.Name()))
		ok(t, err)
	}
	return m
}

// project is the number of a directory.
func project(t *testing.T, dir string) uint32 {
	t.Helper()
	f, err := os.Open(dir)
	ok(t, err)
	defer f.Close()
	n, err := kernel.Project(int(f.Fd()))
	ok(t, err)
	return n
}

func TestRefused(t *testing.T) {
	err := Check("/proc")
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "proc has no project quotas") || !strings.Contains(errs.HintOf(err), "prjquota") {
		t.Errorf("%v; %s", err, errs.HintOf(err))
	}
	if err := Release(t.TempDir(), "containers/a"); err != nil {
		t.Error("where nobody has a limit there is none to release:", err)
	}
}

func TestLimit(t *testing.T) {
	root := folder(t, "containers/a", "containers/b")
	ok(t, Limit(root, "containers/a", upper(root, "containers/a"), 4<<20, 0))
	ok(t, Limit(root, "containers/b", upper(root, "containers/b"), 8<<20, 0))
	ok(t, Limit(root, "containers/a", upper(root, "containers/a"), 4<<20, 0)) // as each start does
	if c := claims(t, root); len(c) != 2 {
		t.Error(c)
	}
	for owner, size := range map[string]int64{"containers/a": 4 << 20, "containers/b": 8 << 20} {
		dir := filepath.Join(upper(root, owner)[0], "dir")
		ok(t, os.Mkdir(dir, 0o755))
		if u, err := Of(dir); err != nil || u.Limit != uint64(size) {
			t.Error("what is made in it is not counted:", u, err)
		}
		if err := fill(filepath.Join(dir, "file"), size/2); err != nil {
			t.Error(err)
		}
		if err := fill(filepath.Join(dir, "more"), size); !full(err) {
			t.Error("more than the limit could be written:", err)
		}
		if u, err := Of(dir); err != nil || u.Used > u.Limit || u.Used < uint64(size/2) {
			t.Error(u, err)
		}
	}
	if u, err := Of(root); err != nil || u != (Usage{}) {
		t.Error("the folder itself is limited", u, err)
	}
}

// fill writes a file as who has no privilege over quotas: root's own writes to ext4 are not
// limited, while those through an overlay are.
func fill(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error)
	go func() {
		// The thread is not given back: it has lost its capabilities.
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		runtime.LockOSThread()
		err := unix.Capset(&head, &none[0])
		if err == nil {
			_, err = f.Write(make([]byte, size))
		}
		done <- errors.Join(err, f.Sync())
	}()
	return <-done
}

// full: ext4 says the one, XFS the other.
func full(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) }

func TestRelease(t *testing.T) {
	root := folder(t, "containers/a", "containers/b")
	dir := upper(root, "containers/a")[0]
	ok(t, Limit(root, "containers/a", []string{dir}, 4<<20, 0))
	ok(t, Limit(root, "containers/b", upper(root, "containers/b"), 4<<20, 0))
	n := project(t, dir)
	ok(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o644))
	ok(t, os.Rename(filepath.Join(root, "containers/a"), filepath.Join(root, "gone")))
	ok(t, Release(root, "containers/a"))
	ok(t, Release(root, "containers/a"))
	if c := claims(t, root); len(c) != 1 {
		t.Error(c)
	}
	u, err := Of(filepath.Join(root, "gone", "upper"))
	if err != nil || u.Limit != 0 || u.Used < 1<<20 {
		t.Error("what is yet to be removed:", u, err)
	}
	// Its number is not given out as long as there is something of it.
	ok(t, os.MkdirAll(dir, 0o755))
	ok(t, Limit(root, "containers/a", []string{dir}, 4<<20, 0))
	if project(t, dir) == n {
		t.Error("a number was given out that counts what is being removed")
	}
}

// Who was killed between removing an owner and releasing it leaves that to the next.
func TestClaimOfTheDead(t *testing.T) {
	root := folder(t, "containers/a", "containers/b")
	dir := upper(root, "containers/a")[0]
	ok(t, Limit(root, "containers/a", []string{dir}, 4<<20, 0))
	n := project(t, dir)
	ok(t, os.RemoveAll(filepath.Join(root, "containers/a")))
	ok(t, Release(root, "containers/b"))
	if c := claims(t, root); len(c) != 0 {
		t.Error(c)
	}
	f, err := os.Open(root)
	ok(t, err)
	defer f.Close()
	if u, err := kernel.Quota(int(f.Fd()), n); err != nil || u.Limit != 0 {
		t.Error(u, err)
	}
}

// A copy is not counted, and is not started without its limit.
func TestCopy(t *testing.T) {
	root := folder(t, "containers/a")
	dir := upper(root, "containers/a")[0]
	ok(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	err := Limit(root, "containers/a", []string{dir}, 4<<20, 0)
	if !errs.Is(err, errs.Corrupt) || !strings.Contains(errs.HintOf(err), "chattr") {
		t.Errorf("%v; %s", err, errs.HintOf(err))
	}
}

// Who is full has some room at the next start, though not each time.
func TestRoom(t *testing.T) {
	root := folder(t, "containers/a")
	dir := upper(root, "containers/a")[0]
	const size, room = 4 << 20, 64 << 10
	ok(t, Limit(root, "containers/a", []string{dir}, size, room))
	if u, err := Of(dir); err != nil || u.Limit != size {
		t.Error("before there is anything:", u, err)
	}
	if err := fill(filepath.Join(dir, "file"), 2*size); !full(err) {
		t.Error(err)
	}
	for range 20 {
		ok(t, Limit(root, "containers/a", []string{dir}, size, room))
		if err := fill(filepath.Join(dir, "more"), size); !full(err) {
			t.Error(err)
		}
	}
	if u, err := Of(dir); err != nil || u.Limit <= size || u.Limit > size+8*room {
		t.Error(u, err)
	}
}
