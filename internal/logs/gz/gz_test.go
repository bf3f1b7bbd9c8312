package gz

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func names(t *testing.T, folder string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestFolder(t *testing.T) {
	folder := t.TempDir()
	content := bytes.Repeat([]byte("2026-11-21T12:00:00.000000000Z stdout F a line\n"), 5000)
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("2.log", content)                 // killed when both were there
	put("2.log.gz", []byte("whole"))      //
	put("3.log", content)                 // killed when it was being made
	put("3.log.gz.new", []byte("not ye")) //
	put("4.log", content)
	put("10.log", content) // is being written
	for range 2 {
		if err := Folder(folder); err != nil {
			t.Fatal(err)
		}
		if got, want := names(t, folder), []string{"10.log", "2.log.gz", "3.log.gz", "4.log.gz"}; !slices.Equal(got, want) {
			t.Fatalf("there are %v, want %v", got, want)
		}
	}
	for _, name := range []string{"3.log.gz", "4.log.gz"} {
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		f.Close()
	}
	if err := compress(filepath.Join(folder, "1.log")); err != nil {
		t.Errorf("a file that rotation has removed: %v", err)
	}
	if got := names(t, folder); len(got) != 4 {
		t.Errorf("there are %v", got)
	}
}
