// Package read reads the logs of containers while they are written, rotated, compressed and
// removed.
//
// A Reader is at a position, and gives the records from there on: through the files in their
// order, each from its plain or its compressed form, whichever is there. A file that it has
// open it reads to its end, whatever becomes of its name. Files that went before it came to
// them it counts as lost, and goes on. Read and Follow add what a user asks for: a part of
// the log, and what is still to be written.
//
// It is a package of its own because it decompresses, which the keeper must not link.
package read

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/inflate"
	"github.com/cortenhq/corten/internal/logs"
)

// Entry is a record of a log, or the news that some are missing.
type Entry struct {
	Time    time.Time
	Stream  logs.Stream
	Partial bool          // the line goes on in the stream's next entry
	Content []byte        // without a newline; until the next entry is read
	After   logs.Position // where to go on after this entry
	Lost    int           // so many files are gone or damaged; there is no content then
}

// Reader goes through a log. It is one goroutine's.
type Reader struct {
	dir    string
	pos    logs.Position // of have
	file   *os.File      // nil: the file at pos is to be opened
	src    io.Reader     // the content of file
	full   bool          // nothing will be added to file any more
	sure   bool          // what is given is durable
	synced int64         // up to here the file is, if that is wanted
	buf    []byte
	have   []byte // the part of buf that has been read and not given
}

// bufSize holds several of the longest records.
const bufSize = 128 << 10

// NewReader returns a reader of the log in dir. It begins at from; the zero Position is the
// oldest record that there is.
func NewReader(dir string, from logs.Position) *Reader {
	return &Reader{dir: dir, pos: from, buf: make([]byte, bufSize)}
}

// Close closes what is open.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file, r.src, r.have = nil, nil, nil
	return err
}

// Next returns the next record. io.EOF means that there is none for now: the log may grow.
func (r *Reader) Next() (Entry, error) {
	for {
		if r.file == nil {
			lost, err := r.open()
			if err != nil {
				return Entry{}, err
			}
			if lost > 0 {
				return Entry{Lost: lost, After: r.pos}, nil
			}
		}
		line, err := r.line()
		switch {
		case err == nil:
			if rec, ok := logs.Parse(line); ok { // else a power cut tore it
				return Entry{time.Unix(0, rec.Time), rec.Stream, rec.Partial, rec.Content, r.pos, 0}, nil
			}
		case err != io.EOF:
			if !r.full {
				return Entry{}, errs.Wrap("read log", r.file.Name(), err)
			}
			r.leave() // the next one may be well
			return Entry{Lost: 1, After: r.pos}, nil
		case r.full:
			r.leave()
		default:
			// Something may have been added between our look and the begin of the next file.
			if r.full, err = r.younger(); err != nil {
				return Entry{}, err
			}
			if !r.full {
				return Entry{}, io.EOF
			}
		}
	}
}

// leave goes on to the next file.
func (r *Reader) leave() {
	_ = r.Close()
	r.pos = logs.Position{File: r.pos.File + 1}
}

// open opens the file at the position, or the first after it that is there. It returns how
// many are missing in between.
func (r *Reader) open() (lost int, err error) {
	if r.pos.File > 0 {
		if err := r.openAt(r.pos); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	for {
		all, err := files(r.dir)
		if err != nil {
			return 0, err
		}
		next := logs.Position{}
		for _, f := range all {
			if f.N >= max(r.pos.File, 1) {
				next.File = f.N
				break
			}
		}
		if next.File == 0 {
			return 0, io.EOF
		}
		if next.File == r.pos.File { // it came while we looked
			next = r.pos
		}
		err = r.openAt(next)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went; then there are younger ones
		}
		if err == nil && r.pos.File > 0 {
			lost = int(next.File - r.pos.File)
		}
		r.pos = next
		return lost, err
	}
}

// openAt opens a file in the form that it has. What is compressed has appeared under its new
// name before the old one goes, so the order matters.
func (r *Reader) openAt(at logs.Position) error {
	f, err := os.Open(filepath.Join(r.dir, logs.Name(at.File)))
	compressed := errors.Is(err, fs.ErrNotExist)
	if compressed {
		f, err = os.Open(filepath.Join(r.dir, logs.CompressedName(at.File)))
	}
	if err != nil {
		return errs.Wrap("read log", r.dir, err)
	}
	r.file, r.src, r.full, r.have, r.synced = f, f, compressed, nil, 0
	if !compressed {
		_, err = f.Seek(at.Offset, io.SeekStart)
		return errs.Wrap("read log", f.Name(), err)
	}
	r.src = inflate.NewReader(f)
	// An error shows at the next read too.
	_, _ = io.CopyN(io.Discard, r.src, at.Offset)
	return nil
}

// younger reports whether a file after the open one has been begun.
func (r *Reader) younger() (bool, error) {
	all, err := files(r.dir)
	return len(all) > 0 && all[len(all)-1].N > r.pos.File, err
}

// line returns the next whole line, which is not there any more after the next call. io.EOF
// means that there is none for now.
func (r *Reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.have, '\n'); i >= 0 {
			line := r.have[:i+1]
			r.have = r.have[i+1:]
			r.pos.Offset += int64(len(line))
			return line, nil
		}
		if len(r.have) == len(r.buf) { // longer than any record: no record
			r.pos.Offset += int64(len(r.have))
			r.have = nil
		}
		kept := copy(r.buf, r.have)
		n, err := r.src.Read(r.buf[kept:])
		r.have = r.buf[:kept+n]
		r.secure()
		switch {
		case n > 0:
		case err == io.EOF && len(r.have) > 0 && !r.full:
			// A record that is just being written, or one of a keeper that died, over which the
			// next one writes: it is read anew.
			r.have = nil
			if _, err := r.file.Seek(r.pos.Offset, io.SeekStart); err != nil {
				return nil, err
			}
			return nil, io.EOF
		default:
			return nil, err
		}
	}
}

// secure makes what was read durable, and all that has been written since: one sync serves many lines. A
// compressed file was synced before it had its name. Of a disk that has failed what can be read is given all the
// same: somebody may be looking for the reason.
func (r *Reader) secure() {
	if !r.sure || r.src != io.Reader(r.file) || r.pos.Offset+int64(len(r.have)) <= r.synced {
		return
	}
	st, err := r.file.Stat()
	if err == nil {
		err = unix.Fdatasync(int(r.file.Fd()))
	}
	if err != nil {
		r.sure = false
		return
	}
	r.synced = st.Size()
}

// files lists the log; one that is not there is empty.
func files(dir string) ([]logs.File, error) {
	all, err := logs.Files(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, errs.Wrap("list log", dir, err)
}

// Request says which part of a log is wanted.
type Request struct {
	From         logs.Position // begin here; zero: at the oldest record
	Tail         int           // if From is zero: only so many of the last lines; negative: all
	Since, Until time.Time     // only records of that time; zero: no limit
	Durable      bool          // give nothing that a power cut could take back, unless the disk fails
}

// Read calls each with the entries that there are when it begins.
func Read(ctx context.Context, dir string, req Request, each func(Entry) error) error {
	end, err := End(dir)
	if err != nil {
		return err
	}
	r, err := req.reader(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	return req.read(ctx, r, end, each)
}

// reader returns a reader at the place where the wanted part begins, or before it.
func (q Request) reader(dir string) (*Reader, error) {
	from, err := q.From, error(nil)
	switch {
	case from != logs.Position{}:
	case q.Tail >= 0:
		from, err = lastLines(dir, q.Tail)
	case !q.Since.IsZero():
		from, err = atTime(dir, q.Since)
	}
	r := NewReader(dir, from)
	r.sure = q.Durable
	return r, err
}

// read calls each with what is wanted, up to a position or what there is for now.
func (q Request) read(ctx context.Context, r *Reader, end logs.Position, each func(Entry) error) error {
	for before(r.pos, end) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Lost == 0 && (!q.Since.IsZero() && e.Time.Before(q.Since) || !q.Until.IsZero() && e.Time.After(q.Until)) {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func before(a, b logs.Position) bool {
	return a.File < b.File || a.File == b.File && a.Offset < b.Offset
}

// endless is behind all that will ever be written.
func endless() logs.Position { return logs.Position{File: math.MaxUint64} }

// End is where the log ends for now: what is written from now on begins there.
func End(dir string) (logs.Position, error) {
	all, err := files(dir)
	if err != nil || len(all) == 0 {
		return logs.Position{File: 1}, err
	}
	newest := all[len(all)-1].N
	info, err := os.Stat(filepath.Join(dir, logs.Name(newest)))
	if errors.Is(err, fs.ErrNotExist) { // it has just been rotated
		return logs.Position{File: newest + 1}, nil
	}
	if err != nil {
		return logs.Position{}, errs.Wrap("read log", dir, err)
	}
	return logs.Position{File: newest, Offset: info.Size()}, nil
}
