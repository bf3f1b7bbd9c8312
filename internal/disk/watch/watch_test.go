package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

func TestWait(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(w.Add(dir), w.Add(dir), w.Add(filepath.Join(dir, "later"))); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		do   func() error
	}{
		{"create", func() error { return os.WriteFile(path, nil, 0o600) }},
		{"write", func() error { return os.WriteFile(path, []byte("x"), 0o600) }},
		{"rename", func() error { return os.Rename(path, path+"2") }},
		{"remove", func() error { return os.Remove(path + "2") }},
	} {
		if err := x.do(); err != nil {
			t.Fatal(err)
		}
		if err := w.Wait(ctx); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	why := errors.New("enough")
	over, end := context.WithCancelCause(ctx)
	end(why)
	if err := w.Wait(over); err != why {
		t.Errorf("after the end: %v", err)
	}
	go os.Mkdir(path, 0o700) // the end of one wait is not that of the next
	if err := w.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestAddFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(path); err == nil || errs.HintOf(err) != "" {
		t.Errorf("a file: %v", err)
	}
}
