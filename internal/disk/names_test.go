package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cortenhq/corten/internal/disk"
)

func TestNames(t *testing.T) {
	dir := t.TempDir()
	if names, err := disk.Names(filepath.Join(dir, "none")); names != nil || err != nil {
		t.Errorf("of no folder: %q, %v", names, err)
	}
	for _, n := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := disk.Names(dir)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := disk.Names(filepath.Join(dir, "a")); err == nil {
		t.Error("a file has no names in it")
	}
}
