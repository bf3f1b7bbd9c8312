package disk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 1023, 1024, 1025, 100_000} {
		want := bytes.Repeat([]byte("corten "), size/7+1)[:size]
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := disk.Read(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	if got, err := disk.ReadAtMost(path, 2000); err != nil || len(got) != 2000 {
		t.Errorf("at most 2000: %d, %v", len(got), err)
	}
	want, err := os.ReadFile("/proc/self/mountinfo")
	if got, err2 := disk.Read("/proc/self/mountinfo"); err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("of /proc: %d bytes, %v", len(got), err2)
	}
	if _, err := disk.Read(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := disk.Read("/"); !errors.Is(err, unix.EISDIR) {
		t.Error(err)
	}
}
