package seal

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// sealable is a folder where files can be sealed.
func sealable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "probe")
	write(t, path, "probe")
	if _, err := File(path); errs.Is(err, errs.Unsupported) {
		t.Skip("needs TMPDIR on a file system with fs-verity, ext4 -O verity: " + err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Where files cannot be sealed none has a seal, and sealing says what would help.
func TestNotHere(t *testing.T) {
	path := "/proc/self/status"
	if _, sealed, err := Of(path); sealed || err != nil {
		t.Error(sealed, err)
	}
	_, err := File(path)
	if !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Errorf("%v (%v)", err, errs.KindOf(err))
	}
	if _, _, err := Of(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// fsverity digest --hash-alg=sha256 --block-size=4096, of Debian's package fsverity, says the same.
func TestSeals(t *testing.T) {
	dir := sealable(t)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
		{"short", "hello\n", "9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa"},
		{"one block", strings.Repeat("x", 4096), "3f128b8d5a052638172857f47f0110dc2fc2c234dc0c712c08a3bc6f6c540483"},
		{"two levels", strings.Repeat("0123456789abcdef", 64<<10), "9cd9643eac3185ddccab6745e00810804872023521d35215091274b5564ffda5"},
	} {
		path := filepath.Join(dir, c.name)
		write(t, path, c.text)
		if _, sealed, err := Of(path); sealed || err != nil {
			t.Fatal(c.name, sealed, err)
		}
		for range 2 { // the second time it is sealed already
			s, err := File(path)
			if err != nil || s.Hex() != c.want {
				t.Errorf("%s: %s, %v, want %s", c.name, s.Hex(), err, c.want)
			}
		}
		if s, sealed, err := Of(path); !sealed || err != nil || s.Hex() != c.want {
			t.Error(c.name, s, sealed, err)
		}
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, unix.EPERM) {
			t.Error("a sealed file can be written to", err)
			_ = f.Close()
		}
	}
}

// Who is about to close a file, and who seals it too, are waited for.
func TestPatience(t *testing.T) {
	path := filepath.Join(sealable(t), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := File(path); err != nil {
				t.Error(err)
			}
		})
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// store writes objects and returns a book of them.
func store(t *testing.T, dir string, texts ...string) (*Book, []oci.Digest) {
	t.Helper()
	b := NewBook(func(d oci.Digest) string { return filepath.Join(dir, d.Hex()) })
	var list []oci.Digest
	for _, text := range texts {
		d := oci.FromBytes([]byte(text))
		write(t, b.path(d), text)
		list = append(list, d)
	}
	return b, list
}

func sealAll(b *Book, list []oci.Digest) error {
	batch := b.Batch(context.Background())
	for _, d := range list {
		batch.Add(d)
	}
	return batch.Wait()
}

func TestBook(t *testing.T) {
	b, list := store(t, sealable(t), "one", "two", "three")
	if err := sealAll(b, append(list, list...)); err != nil {
		t.Fatal(err)
	}
	if b.Made() != len(list) {
		t.Error("it has made", b.Made())
	}
	again := NewBook(b.path)
	if err := sealAll(again, list); err != nil || again.Made() != 0 {
		t.Error("sealed twice:", again.Made(), err)
	}
	for _, d := range list {
		s, ok := b.Seal(d)
		if kernels, sealed, err := Of(b.path(d)); !ok || !sealed || err != nil || s != kernels {
			t.Error(d, s, ok, kernels, sealed, err)
		}
	}
	if _, ok := b.Seal(oci.FromBytes(nil)); ok {
		t.Error("one that was not added has a seal")
	}
}

// What has long been there is compared with its name; a seal that is there was so.
func TestOldObjectsAreCompared(t *testing.T) {
	b, list := store(t, sealable(t), "right", "wrong")
	write(t, b.path(list[1]), "false")
	long := time.Now().Add(-time.Hour)
	for _, d := range list {
		if err := os.Chtimes(b.path(d), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := sealAll(b, list[:1]); err != nil {
		t.Error(err)
	}
	for range 2 { // what was refused has no seal
		err := sealAll(b, list)
		if !errs.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), string(list[1])) || errs.HintOf(err) == "" {
			t.Error(err)
		}
	}
}

// A batch that cannot go on neither hangs nor forgets why.
func TestBatchFails(t *testing.T) {
	b, list := store(t, t.TempDir())
	for i := range 100 {
		list = append(list, oci.FromBytes([]byte{byte(i)})) // none is there
	}
	if err := sealAll(b, list); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	batch := b.Batch(ctx)
	for _, d := range list {
		batch.Add(d)
	}
	if err := batch.Wait(); !errs.Is(err, errs.Canceled) {
		t.Error(err)
	}
	if len(Seal{}) != sha256.Size {
		t.Error("a seal is a SHA-256")
	}
}
