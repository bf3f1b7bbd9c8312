// Package events keeps the durable log of what happened to containers, images, volumes and networks.
//
// An event is a line that whoever made a change appends after it, with one write, to the
// newest of a few numbered files in ROOT/events. There is nobody to ask and nothing to keep
// running: who wants to know reads the files (Read), and waits for them to grow (Follow).
// FORMATS.md has the format. Types, actions and attributes are Docker's.
package events

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// Event is one thing that happened.
type Event struct {
	Time       time.Time // zero: Append takes now
	Type       string    // TypeContainer and so on
	Action     string    // Docker's: "start"; with more to say, "exec_start: sh -c date"
	ID         string    // of the container or network; the name of an image or volume
	Attributes map[string]string
}

// Types of events.
const (
	TypeContainer = "container"
	TypeImage     = "image"
	TypeVolume    = "volume"
	TypeNetwork   = "network"
)

const (
	maxFile  = 4 << 20 // bytes of a file after which the next is begun
	maxFiles = 4
)

// Append writes an event down. Other processes see it when Append returns; a power cut may
// take it.
func Append(root string, e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	dir := filepath.Join(root, "events")
	if err := appendLine(dir, encode(&e)); err != nil {
		return errs.Wrap("write event", e.Type+" "+e.Action, err)
	}
	return nil
}

func appendLine(dir string, line []byte) error {
	n, err := newest(dir)
	if err != nil {
		return err
	}
	if n == 0 {
		if n, err = begin(dir, 0); err != nil {
			return err
		}
	}
	size, err := writeLine(filepath.Join(dir, fileName(n)), line)
	if errors.Is(err, fs.ErrNotExist) { // many have been begun since we looked
		return appendLine(dir, line)
	}
	if err != nil || size < maxFile {
		return err
	}
	_, err = begin(dir, n)
	return err
}

// writeLine appends a line, with an end before it if somebody was killed in the middle of
// his, and returns the size of the file.
func writeLine(path string, line []byte) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_END)
	if err != nil {
		return 0, err
	}
	var last [1]byte
	if end > 0 {
		if _, err := f.ReadAt(last[:], end-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	return end + int64(len(line)), err
}

// begin begins the file after n, unless somebody has, and removes the oldest. It returns the
// newest.
func begin(dir string, n uint64) (uint64, error) {
	if n == 0 {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return 0, err
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close() // unlocks
	if err := disk.Flock(d, disk.Exclusive); err != nil {
		return 0, err
	}
	all, err := list(dir)
	if err != nil {
		return 0, err
	}
	if len(all) > 0 && all[len(all)-1] > n {
		return all[len(all)-1], nil
	}
	f, err := os.OpenFile(filepath.Join(dir, fileName(n+1)), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	all = append(all, n+1)
	for _, old := range all[:max(0, len(all)-maxFiles)] {
		_ = os.Remove(filepath.Join(dir, fileName(old))) // the next to begin one tries again
	}
	return n + 1, f.Close()
}

func fileName(n uint64) string { return strconv.FormatUint(n, 10) + ".jsonl" }

// list is the numbers of the files, in order.
func list(dir string) ([]uint64, error) {
	names, err := disk.Names(dir)
	var all []uint64
	for _, name := range names {
		if n, ok := number(name); ok {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, err
}

// newest is the number of the newest file, 0 if there is none.
func newest(dir string) (n uint64, err error) {
	names, err := disk.Names(dir)
	for _, name := range names {
		if m, ok := number(name); ok {
			n = max(n, m)
		}
	}
	return n, err
}

func number(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".jsonl")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// The beginning of each line, before and after the time: by it a reader passes over what is
// too old or too young without reading the rest.
const timeKey = `{"time":`

// encode is written out because an event is on the way of every start: encoding/json takes
// longer to look at the types for the first time than the rest of Append does.
func encode(e *Event) []byte {
	b := make([]byte, 0, 512)
	b = strconv.AppendInt(append(b, timeKey...), e.Time.UnixNano(), 10)
	b = appendString(append(b, `,"type":`...), e.Type)
	b = appendString(append(b, `,"action":`...), e.Action)
	b = appendString(append(b, `,"id":`...), e.ID)
	if len(e.Attributes) > 0 {
		mark := `,"attributes":{`
		for _, name := range slices.Sorted(maps.Keys(e.Attributes)) {
			b = appendString(append(b, mark...), name)
			b = appendString(append(b, ':'), e.Attributes[name])
			mark = ","
		}
		b = append(b, '}')
	}
	return append(b, "}\n"...)
}

func appendString(b []byte, s string) []byte {
	for _, r := range s {
		if r < ' ' || r == '"' || r == '\\' || r == 0x7f || r == utf8.RuneError {
			quoted, _ := json.Marshal(s) // a string never fails
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
