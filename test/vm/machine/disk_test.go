package machine

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestVolatile says what becomes of blocks when the power goes: those that were flushed stay, of all
// others each is the old one or the new one.
func TestVolatile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	const blocks = 64
	if err := os.WriteFile(path, bytes.Repeat([]byte{'0'}, blocks*block), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := serve(path, filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	whole := func(b byte) []byte { return bytes.Repeat([]byte{b}, blocks*block) }
	if err := c.write(whole('1'), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	if err := c.write(whole('2'), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.write([]byte("in two blocks"), 3*block-5); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 13)
	if err := c.read(got, 3*block-5); err != nil || string(got) != "in two blocks" {
		t.Errorf("read back: %q, %v", got, err)
	}
	if err := c.cut(); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range blocks {
		b := disk[n*block : (n+1)*block]
		if n == 2 || n == 3 {
			b = b[5 : block-8]
			if n == 3 {
				b = b[8:]
			}
		}
		if !bytes.Equal(b, bytes.Repeat([]byte{'1'}, len(b))) && !bytes.Equal(b, bytes.Repeat([]byte{'2'}, len(b))) {
			t.Errorf("block %d is neither what was flushed nor what was written", n)
		}
	}
	if err := c.write([]byte{1}, blocks*block); err == nil {
		t.Error("a write behind the end succeeds")
	}
}
