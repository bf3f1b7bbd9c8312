package cni

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Leftover is what plugins could not undo at the end of a container. It does not keep that from being
// started again, or removed: the record says all that it takes to try again.
type Leftover struct {
	Document *wiring.Document `json:"document"`
	Reason   string           `json:"reason"`
	Hint     string           `json:"hint,omitempty"`
}

func leftDir(run string) string { return filepath.Join(run, "net/cni/left") }

func leftFile(run string, id spec.ContainerID) string { return filepath.Join(leftDir(run), string(id)) }

// Keep writes a record.
func (l Leftover) Keep(run string) error {
	b, err := json.Marshal(l)
	if err == nil {
		err = os.MkdirAll(leftDir(run), 0o700)
	}
	if err == nil {
		err = disk.WriteFile(leftFile(run, l.Document.ID), b, 0o600, disk.Volatile)
	}
	return err
}

// LeftOf reads the record of a container; nil: there is none.
func LeftOf(run string, id spec.ContainerID) (*Leftover, error) {
	b, err := disk.Read(leftFile(run, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	l := new(Leftover)
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err == nil && (l.Document == nil || l.Document.ID != id) {
		err = errs.Newf(errs.Corrupt, "", "", "it is of another container")
	}
	if err != nil {
		return nil, errs.Wrap("read", leftFile(run, id), err)
	}
	return l, nil
}

// Leftovers lists the containers that have a record.
func Leftovers(run string) []spec.ContainerID {
	entries, err := os.ReadDir(leftDir(run))
	if err != nil {
		return nil
	}
	var out []spec.ContainerID
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, spec.ContainerID(e.Name()))
		}
	}
	return out
}

// Tried is when somebody last tried to undo what is left, or began to keep it; false: nothing is left. Where there never was
// anything it is one system call.
func Tried(run string) (time.Time, bool) {
	var tried time.Time
	list := Leftovers(run)
	for _, id := range list {
		if st, err := os.Stat(leftFile(run, id)); err == nil && st.ModTime().After(tried) {
			tried = st.ModTime()
		}
	}
	return tried, len(list) > 0
}

// Forget removes a record, once all is undone.
func Forget(run string, id spec.ContainerID) error {
	err := os.Remove(leftFile(run, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Err is the record as an error to tell the user.
func (l *Leftover) Err() error {
	if l == nil {
		return nil
	}
	return errs.Newf(errs.Unavailable, "take container off its network", l.Document.Name, l.Reason).
		WithHint("it is tried again every 10 seconds, by whatever command is next; " + l.Hint)
}
