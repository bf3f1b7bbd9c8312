package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/store"
)

// The kind of tree is found out once a boot.
func TestTreeKindIsRemembered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if ok, err := canMountTrees(t.TempDir(), store.EROFS); err != nil || !ok {
		t.Skipf("this kernel cannot mount EROFS trees over objects (%v)", err)
	}
	dir := filepath.Join(t.TempDir(), "with:colon, comma")
	l, err := Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"), "")
	if err != nil {
		t.Fatal(err)
	}
	best, err := l.TreeKind()
	if err != nil || best == store.Dir {
		t.Fatal(best, err)
	}
	memory := filepath.Join(l.run, "tree-kind")
	b, err := os.ReadFile(memory)
	if err != nil {
		t.Fatal(err)
	}
	_, on, _ := strings.Cut(string(b), " ")
	if err := os.WriteFile(memory, []byte("dir "+on), 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := l.TreeKind(); err != nil || k != store.Dir {
		t.Error("it was not remembered:", k, err)
	}
	for _, text := range []string{"garb", "garb " + on, "dir", "dir 1" + on} {
		if err := os.WriteFile(memory, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if k, err := l.TreeKind(); err != nil || k != best {
			t.Errorf("%q was believed: %v, %v", text, k, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, ".probe-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
