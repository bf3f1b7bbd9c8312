package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cortenhq/corten/internal/store"
)

// The kind of tree is found out once a boot.
func TestTreeKindIsRemembered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if ok, err := canMountTrees(t.TempDir()); err != nil || !ok {
		t.Skipf("this kernel cannot mount EROFS trees over objects (%v)", err)
	}
	dir := filepath.Join(t.TempDir(), "with:colon, comma")
	l, err := Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"), "")
	if err != nil {
		t.Fatal(err)
	}
	if k, err := l.treeKind(); err != nil || k != store.EROFS {
		t.Fatal(k, err)
	}
	memory := filepath.Join(l.run, "tree-kind")
	if err := os.WriteFile(memory, []byte("dir"), 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := l.treeKind(); err != nil || k != store.Dir {
		t.Error("it was not remembered:", k, err)
	}
	if err := os.WriteFile(memory, []byte("garb"), 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := l.treeKind(); err != nil || k != store.EROFS {
		t.Error("garbage was believed:", k, err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, ".probe-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
