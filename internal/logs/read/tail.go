package read

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/logs"
)

// atTime is the beginning of the newest file that begins before t. After a clock was set back
// older files may have younger records; nobody can say what they would want then.
func atTime(dir string, t time.Time) (logs.Position, error) {
	all, err := files(dir)
	if err != nil {
		return logs.Position{}, err
	}
	for i := len(all) - 1; i > 0; i-- {
		at := logs.Position{File: all[i].N}
		r := NewReader(dir, at)
		e, err := r.Next()
		_ = r.Close()
		if err == nil && e.After.File == at.File && e.Lost == 0 && e.Time.Before(t) {
			return at, nil
		}
	}
	return logs.Position{}, nil // whatever is the oldest by then
}

// lastLines is the position of the last n lines, as far back as there are so many. A line ends
// with its last record; what has not ended counts as one. A line that began among others, of
// the other stream, may be cut at its beginning.
func lastLines(dir string, n int) (logs.Position, error) {
	all, err := files(dir)
	if err != nil {
		return logs.Position{}, err
	}
	t := tail{want: n}
	for i := len(all) - 1; i >= 0; i-- {
		at, found, err := t.search(dir, all[i].N)
		if errors.Is(err, fs.ErrNotExist) {
			break // removed, and all before it
		}
		if err != nil || found {
			return logs.Position{File: all[i].N, Offset: at}, err
		}
	}
	return logs.Position{}, nil
}

// tail counts lines from the end of a log.
type tail struct {
	want  int
	found int
	begun bool // a record has been seen
}

// take is given the records from the last to the first, and reports whether one is that after
// which the wanted lines begin.
func (t *tail) take(line []byte) bool {
	rec, ok := logs.Parse(line)
	if !ok {
		return false
	}
	if !rec.Partial || !t.begun {
		t.found++
	}
	t.begun = true
	return t.found > t.want
}

// search looks for the beginning of the lines in one file.
func (t *tail) search(dir string, n uint64) (int64, bool, error) {
	f, err := os.Open(filepath.Join(dir, logs.Name(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return t.searchCompressed(dir, n)
	}
	if err != nil {
		return 0, false, errs.Wrap("read log", dir, err)
	}
	defer f.Close()
	at, found, err := t.searchPlain(f)
	return at, found, errs.Wrap("read log", f.Name(), err)
}

// block is how much of a file is read at a time, from its end.
const block = 64 << 10

func (t *tail) searchPlain(f *os.File) (int64, bool, error) {
	asked := *t
	start, err := f.Seek(0, io.SeekEnd) // of what is in have
	if err != nil {
		return 0, false, err
	}
	var have []byte // lines not taken yet; the first may be without its beginning
	whole := false  // have ends with a newline, or the part that did not is dropped
	for start > 0 {
		n := min(block, start)
		b := make([]byte, n, int(n)+len(have))
		_, err := f.ReadAt(b, start-n)
		if err == io.EOF { // a keeper that takes over has made it shorter
			*t = asked
			return t.searchPlain(f)
		}
		if err != nil {
			return 0, false, err
		}
		have, start = append(b, have...), start-n
		if !whole {
			i := bytes.LastIndexByte(have, '\n')
			if i < 0 {
				continue
			}
			have, whole = have[:i+1], true
		}
		for len(have) > 0 {
			i := bytes.LastIndexByte(have[:len(have)-1], '\n')
			if i < 0 && start > 0 {
				break
			}
			if t.take(have[i+1:]) {
				return start + int64(len(have)), true, nil
			}
			have = have[:i+1]
		}
		if len(have) > logs.MaxRecord { // no record
			have, whole = nil, false
		}
	}
	return 0, false, nil
}

// searchCompressed reads the whole file: there is no other way to its end.
func (t *tail) searchCompressed(dir string, n uint64) (int64, bool, error) {
	r := NewReader(dir, logs.Position{})
	defer r.Close()
	if err := r.openAt(logs.Position{File: n}); err != nil {
		return 0, false, err
	}
	r.pos.File = n
	var ends []int64 // of the records that end a line, and of the last one
	partial := false
	for {
		line, err := r.line()
		if err != nil { // damage too: who reads it will be told
			break
		}
		rec, ok := logs.Parse(line)
		if !ok {
			continue
		}
		if partial {
			ends = ends[:len(ends)-1]
		}
		ends, partial = append(ends, r.pos.Offset), rec.Partial
	}
	if partial && t.begun {
		ends = ends[:len(ends)-1] // it goes on in the next file
	}
	t.begun = t.begun || len(ends) > 0
	t.found += len(ends)
	if t.found <= t.want {
		return 0, false, nil
	}
	return ends[t.found-t.want-1], true, nil
}
