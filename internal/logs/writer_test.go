package logs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func opened(t *testing.T, folder string, l Limits) *Writer {
	t.Helper()
	w, err := OpenWriter(folder, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func read(t *testing.T, folder string) (all []byte, names []string) {
	t.Helper()
	list, err := Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := os.ReadFile(filepath.Join(folder, Name(f.N)))
		if err != nil {
			t.Fatal(err)
		}
		all, names = append(all, b...), append(names, Name(f.N))
	}
	return all, names
}

func TestWriterGoesOn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	w := opened(t, folder, Limits{Size: 10, Files: 2})
	for _, s := range []string{"one\n", "two\n"} {
		if err := w.Append([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if p := w.Position(); p != (Position{1, 8}) || w.Room() != 2 {
		t.Fatalf("%+v, room %d", p, w.Room())
	}
	w = opened(t, folder, Limits{Size: 10, Files: 2})
	if p := w.Position(); p != (Position{1, 8}) {
		t.Fatalf("%+v", p)
	}
	for range 3 {
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := w.Append([]byte("more\n")); err != nil {
			t.Fatal(err)
		}
	}
	if all, names := read(t, folder); string(all) != "more\nmore\n" || len(names) != 2 || names[0] != "3.log" {
		t.Fatalf("%q %v", all, names)
	}
}

// What is after the last newline was torn, wherever that newline is.
func TestWriterCutsTheTorn(t *testing.T) {
	for _, torn := range []int{0, 1, 511, 512, 513, 5000} {
		for _, whole := range []string{"", "a line\n", "a line\n" + string(bytes.Repeat([]byte("b"), 600)) + "\n"} {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "7.log"), append([]byte(whole), bytes.Repeat([]byte("x"), torn)...), 0o600); err != nil {
				t.Fatal(err)
			}
			w := opened(t, folder, Limits{})
			if p := w.Position(); p != (Position{7, int64(len(whole))}) {
				t.Errorf("%d bytes torn after %d: %+v", torn, len(whole), p)
			}
			if all, _ := read(t, folder); string(all) != whole {
				t.Errorf("%d bytes torn after %d: %d are left", torn, len(whole), len(all))
			}
		}
	}
}

func TestRewind(t *testing.T) {
	folder := t.TempDir()
	w := opened(t, folder, Limits{})
	for _, s := range []string{"one\n", "two\n"} {
		if err := w.Append([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if !w.Rewind(Position{1, 4}) {
		t.Fatal("it cannot go back in the same file")
	}
	if err := w.Append([]byte("two\n")); err != nil {
		t.Fatal(err)
	}
	if all, _ := read(t, folder); string(all) != "one\ntwo\n" {
		t.Fatalf("%q", all)
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	if w.Rewind(Position{1, 4}) {
		t.Fatal("it goes back to a file that is done with")
	}
	if !w.Rewind(Position{9, 4}) || w.Position() != (Position{2, 0}) {
		t.Fatalf("a log that was taken away goes on at %+v", w.Position())
	}
}

// After a file that was compressed comes another one, also if it was the last.
func TestWriterAfterCompressed(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, CompressedName(3)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if w := opened(t, folder, Limits{}); w.Position() != (Position{4, 0}) {
		t.Fatalf("%+v", w.Position())
	}
}
