package draft

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

const label = "system_u:object_r:container_file_t:s0:c1,c2"

func TestLabelFor(t *testing.T) {
	for how, want := range map[spec.Relabel]string{spec.RelabelPrivate: label, spec.RelabelShared: "system_u:object_r:container_file_t:s0"} {
		if got := labelFor(how, label); got != want {
			t.Errorf("%s: %s, want %s", how, got, want)
		}
	}
}

func TestRelabel(t *testing.T) {
	dir := t.TempDir()
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	if err := os.MkdirAll(filepath.Join(tree, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{outside, filepath.Join(tree, "f"), filepath.Join(tree, "a/b/f")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(tree, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(outside, "security.selinux", []byte("before"), 0); err != nil {
		t.Skip("needs root, and a file system with security attributes: ", err)
	}
	if err := relabel(tree, label); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tree, tree + "/f", tree + "/a", tree + "/a/b", tree + "/a/b/f", tree + "/fifo", tree + "/link"} {
		if got := labelOf(name); got != label {
			t.Errorf("%s has %q", strings.TrimPrefix(name, dir), got)
		}
	}
	if got := labelOf(outside); got != "before" {
		t.Errorf("a link led out of the tree: the file there has %q", got)
	}
	if err := relabel("/etc/", label); !errs.Is(err, errs.Denied) {
		t.Errorf("/etc: %v", err)
	}
}

func labelOf(name string) string {
	b := make([]byte, 100)
	n, err := unix.Lgetxattr(name, "security.selinux", b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}
