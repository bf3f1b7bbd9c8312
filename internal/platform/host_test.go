package platform

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// listed writes an administrator's list.
func listed(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host.mask")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// masked is what the mask does to a path: "" nothing, "gone", "empty", or "shown" for a
// directory that is only on the way.
func masked(t *testing.T, f facts, path string) string {
	t.Helper()
	entries := f.tree().Entries
	i := slices.IndexFunc(entries, func(e tree.Entry) bool { return e.Path == rel(path) })
	switch {
	case i < 0:
		return ""
	case entries[i].Type == tree.Whiteout:
		return "gone"
	case entries[i].Opaque:
		return "empty"
	}
	return "shown"
}

// visible makes a directory that the built-in list does not hide: temporary folders are
// hidden as a whole.
func visible(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/srv", "corten-test-")
	if err != nil {
		t.Skip("needs to write to /srv: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMaskFollowsTheHost(t *testing.T) {
	dir := visible(t)
	secret := filepath.Join(dir, "a/secret")
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	list := listed(t, secret)
	seen := map[string]string{}
	step := func(what, want string, change func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		f, err := look(list, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := masked(t, f, secret); got != want {
			t.Errorf("%s: masked as %q, want %q", what, got, want)
		}
		if old, ok := seen[f.key()]; ok {
			t.Errorf("%s: the same mask as: %s", what, old)
		}
		seen[f.key()] = what
	}
	step("missing", "gone", func() error { return nil })
	step("a directory", "empty", func() error { return os.Mkdir(secret, 0o755) })
	step("a directory in a closed one", "", func() error { return os.Chmod(filepath.Dir(secret), 0o700) })
	if got := masked(t, first(look(list, nil)), filepath.Dir(secret)); got != "empty" {
		t.Errorf("a closed directory on the way: %q", got)
	}
}

func first(f facts, _ error) facts { return f }

// What a hidden name links to is hidden, wherever it lies; so are homes below a /home that
// is a link.
func TestMaskFollowsLinks(t *testing.T) {
	dir := visible(t)
	for _, d := range []string{"homes/alice", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"home": "homes", "secret": "data", "nowhere": "missing", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := look(listed(t, dir+"/home/alice", dir+"/secret", dir+"/nowhere", dir+"/loop/x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"homes": "shown", "homes/alice": "empty", "data": "empty", "secret": "", "nowhere": "", "home": ""} {
		if got := masked(t, f, filepath.Join(dir, path)); got != want {
			t.Errorf("%s: masked as %q, want %q", path, got, want)
		}
	}
}

func TestMaskList(t *testing.T) {
	f, err := look(listed(t, "# comment", "", "!/etc/fstab", "/etc/hostname # and why"), []string{"/var/lib/corten-test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := masked(t, f, "/etc/fstab"); got != "" {
		t.Errorf("/etc/fstab is to be shown: %q", got)
	}
	for path, want := range map[string]string{"/etc/hostname": "gone", "/etc/shadow": "gone", "/root": "empty", "/var/lib/corten-test": "gone"} {
		if got := masked(t, f, path); got != want {
			t.Errorf("%s: masked as %q, want %q", path, got, want)
		}
	}
	if _, err := look(listed(t, "etc/hostname"), nil); !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" {
		t.Errorf("a relative path: %v", err)
	}
}

// Every parent of an entry is there, and nothing lies below what is hidden.
func TestMaskIsATree(t *testing.T) {
	f, err := look("", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]tree.Entry{}
	for _, e := range f.tree().Entries {
		seen[e.Path] = e
		if e.Path == "" {
			continue
		}
		parent := rel(filepath.Dir("/" + e.Path))
		if p, ok := seen[parent]; !ok || p.Type != tree.Dir || p.Opaque {
			t.Errorf("%s lies in %q, which is %+v", e.Path, parent, p)
		}
	}
}

func TestBelow(t *testing.T) {
	f := facts{hide: []place{{path: "/etc/ssh"}, {path: "/etcetera"}, {path: "/usr/home", mode: 0o755}}}
	if got := f.below("/etc"); !slices.Equal(got, []string{"/etc/ssh"}) {
		t.Error(got)
	}
}

func BenchmarkLook(b *testing.B) {
	for b.Loop() {
		f, err := look("", nil)
		if err != nil {
			b.Fatal(err)
		}
		_ = f.key()
	}
}

// An ordinary user has the host's programs in a root of their own.
func TestHostOfUser(t *testing.T) {
	dir := t.TempDir()
	dry, err := HostOfUser(dir, filepath.Join(dir, "none"), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dry.Mask); err == nil {
		t.Error("something was made for nothing")
	}
	for range 2 {
		b, err := HostOfUser(dir, filepath.Join(dir, "none"), false)
		if err != nil || b.Mask != dry.Mask || len(b.Binds) == 0 {
			t.Fatalf("%+v %v", b, err)
		}
		for _, d := range shown() {
			host, err := os.Lstat(d)
			own, oerr := os.Lstat(b.Mask + d)
			if (err == nil) != (oerr == nil) || err == nil && host.Mode().Type() != own.Mode().Type() {
				t.Errorf("%s: %v on the host, %v here", d, host, own)
			}
		}
		if st, err := os.Stat(b.Mask + "/tmp"); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
			t.Errorf("/tmp: %v %v", st, err)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
