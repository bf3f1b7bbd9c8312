package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cortenhq/corten/internal/disk/watch"
	"github.com/cortenhq/corten/internal/errs"
)

// Query says which events are wanted; what is zero does not limit.
type Query struct {
	Since, Until time.Time
	Match        func(*Event) bool
}

// Read calls each with the events that there are, in the order in which they were written.
func Read(root string, q Query, each func(Event) error) error {
	r := reader{dir: filepath.Join(root, "events"), query: q, each: each}
	defer r.close()
	return r.readAll()
}

// Follow calls each with the events that there are, and then with each that is written, until
// the query's end has come or ctx is done, whose cause it then returns. Without a beginning
// and an end it is only what comes from now on.
func Follow(ctx context.Context, root string, q Query, each func(Event) error) error {
	r := reader{dir: filepath.Join(root, "events"), query: q, each: each}
	defer r.close()
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return errs.Wrap("follow events in", r.dir, err)
	}
	w, err := watch.New()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Add(r.dir); err != nil {
		return err
	}
	if q.Since.IsZero() && q.Until.IsZero() {
		if err := r.skipAll(); err != nil {
			return err
		}
	}
	wait := ctx
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		wait, cancel = context.WithDeadline(ctx, q.Until)
		defer cancel()
	}
	for {
		over := wait.Err() != nil // asked before the last look
		if err := r.readAll(); err != nil {
			return err
		}
		if over {
			return context.Cause(ctx) // nil if it is the query's end that has come
		}
		if err := w.Wait(wait); err != nil && wait.Err() == nil {
			return err
		}
	}
}

// reader goes through the files in their order. The file before the newest stays open: who
// had chosen it when the newest was begun may still write to it.
type reader struct {
	dir   string
	query Query
	each  func(Event) error
	files []*place // at most two
}

// place is how far a file has been read.
type place struct {
	number uint64
	file   *os.File
	rest   []byte // what follows the last newline: perhaps the beginning of a line
}

func (r *reader) close() {
	for _, p := range r.files {
		_ = p.file.Close()
	}
}

// readAll reads what has come since the last time.
func (r *reader) readAll() error {
	for _, p := range r.files {
		if err := r.read(p); err != nil {
			return err
		}
	}
	return r.openAll((*reader).read)
}

// skipAll passes over what there is.
func (r *reader) skipAll() error {
	return r.openAll(func(_ *reader, p *place) error {
		_, err := p.file.Seek(0, io.SeekEnd)
		return err
	})
}

// openAll opens the files that are younger than the last, and has each looked at.
func (r *reader) openAll(look func(*reader, *place) error) error {
	all, err := list(r.dir)
	if err != nil {
		return errs.Wrap("list events in", r.dir, err)
	}
	for _, n := range all {
		if len(r.files) > 0 && n <= r.files[len(r.files)-1].number {
			continue
		}
		f, err := os.Open(filepath.Join(r.dir, fileName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was the oldest
		}
		if err != nil {
			return errs.Wrap("read events", fileName(n), err)
		}
		if len(r.files) == 2 {
			_ = r.files[0].file.Close()
			r.files = r.files[1:]
		}
		p := &place{number: n, file: f}
		r.files = append(r.files, p)
		if err := look(r, p); err != nil {
			return err
		}
	}
	return nil
}

// read calls each with the events of a file that have come since the last time.
func (r *reader) read(p *place) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.file.Read(buf)
		if err != nil && err != io.EOF {
			return errs.Wrap("read events", p.file.Name(), err)
		}
		if n == 0 {
			return nil
		}
		p.rest = append(p.rest, buf[:n]...)
		for {
			line, rest, whole := bytes.Cut(p.rest, []byte{'\n'})
			if !whole {
				break
			}
			p.rest = rest
			if err := r.tell(line); err != nil {
				return err
			}
		}
		p.rest = append([]byte(nil), p.rest...) // lets go of the lines before
	}
}

// tell calls each if the line is an event that is wanted.
func (r *reader) tell(line []byte) error {
	if t, ok := timeOf(line); ok && !r.query.covers(t) {
		return nil
	}
	e, ok := decode(line)
	if !ok || !r.query.covers(e.Time) || r.query.Match != nil && !r.query.Match(&e) {
		return nil
	}
	return r.each(e)
}

func (q *Query) covers(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || !t.After(q.Until))
}

// timeOf reads the time of a line that begins as encode begins it.
func timeOf(line []byte) (time.Time, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(timeKey))
	if !ok {
		return time.Time{}, false
	}
	digits, _, _ := bytes.Cut(rest[:min(20, len(rest))], []byte{','})
	ns, err := strconv.ParseInt(string(digits), 10, 64)
	return time.Unix(0, ns), err == nil
}

func decode(line []byte) (Event, bool) {
	var x struct {
		Time       int64             `json:"time"`
		Type       string            `json:"type"`
		Action     string            `json:"action"`
		ID         string            `json:"id"`
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(line, &x) != nil || x.Type == "" {
		return Event{}, false
	}
	return Event{time.Unix(0, x.Time), x.Type, x.Action, x.ID, x.Attributes}, true
}
