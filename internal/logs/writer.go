package logs

import (
	"bytes"
	"math"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Limits say how large a log may become.
type Limits struct {
	Size  int64 // of one file, in bytes; 0: no limit
	Files int   // how many are kept, with the one being written; 0: no limit
}

// Writer writes a log. There is one at a time: the holder of the container's lock.
//
// A file grows only while it is the highest, and only by Append. Readers take a record when
// its newline is there: an Append that does not succeed may be seen in part until it is cut.
type Writer struct {
	dir, fd int
	end     Position
	limits  Limits
}

// OpenWriter opens a folder, which it makes if it has to, and goes on where the last writer
// stopped. What follows the last newline was torn by a power cut, or by the end of a
// process whose batch is going to be written again, and is cut.
func OpenWriter(folder string, l Limits) (*Writer, error) {
	w := &Writer{dir: -1, fd: -1, limits: l}
	err := unix.Mkdir(folder, 0o700)
	if err == nil || err == unix.EEXIST {
		w.dir, err = open(unix.AT_FDCWD, folder, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	var list []File
	if err == nil {
		list, err = files(w.dir)
	}
	if err == nil {
		n := uint64(1)
		if len(list) > 0 {
			last := list[len(list)-1]
			if n = last.N; last.Compressed {
				n++
			}
		}
		err = w.open(n)
	}
	if err == nil {
		w.end.Offset, err = cutTorn(w.fd)
	}
	if err != nil {
		w.Close()
		return nil, errs.Wrap("open log", folder, err)
	}
	w.prune()
	return w, nil
}

// open makes file n the one that is written.
func (w *Writer) open(n uint64) error {
	fd, err := open(w.dir, Name(n), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
	w.fd, w.end = fd, Position{File: n}
	return nil
}

// cutTorn cuts what follows the last newline and returns the file's size then.
func cutTorn(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	var buf [512]byte
	for end := st.Size; end > 0; {
		from := max(0, end-int64(len(buf)))
		n, err := pread(fd, buf[:end-from], from)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			end = from + int64(i) + 1
			if end == st.Size {
				return end, nil
			}
			return end, unix.Ftruncate(fd, end)
		}
		end = from
	}
	if st.Size == 0 {
		return 0, nil
	}
	return 0, unix.Ftruncate(fd, 0)
}

// Close closes the files. A Writer that was not opened may be closed.
func (w *Writer) Close() {
	for _, fd := range []int{w.fd, w.dir} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	w.fd, w.dir = -1, -1
}

// SetLimits changes the limits for what is written from now on, and removes what is too old.
func (w *Writer) SetLimits(l Limits) {
	w.limits = l
	w.prune()
}

// Sync makes all that was written durable. Compressed files were that when they got their names. There
// is nothing to do for a nil Writer.
func (w *Writer) Sync() error {
	if w == nil {
		return nil
	}
	list, err := files(w.dir)
	if err != nil {
		return errs.Wrap("sync log", Name(w.end.File), err)
	}
	for _, f := range list {
		if !f.Plain {
			continue
		}
		fd, err := open(w.dir, Name(f.N), unix.O_RDONLY|unix.O_NOFOLLOW)
		if err == unix.ENOENT { // compressed meanwhile
			continue
		}
		if err == nil {
			err = unix.Fdatasync(fd)
			unix.Close(fd)
		}
		if err != nil {
			return errs.Wrap("sync log", Name(f.N), err)
		}
	}
	return nil
}

// Position is where the next record goes, unless Rotate comes first.
func (w *Writer) Position() Position { return w.end }

// Room is how many bytes the file may grow; when the next record is larger it is time to
// Rotate, but for a record that is larger than a whole file.
func (w *Writer) Room() int64 {
	if w.limits.Size <= 0 {
		return math.MaxInt64
	}
	return max(0, w.limits.Size-w.end.Offset)
}

// Append writes records, which end with a newline, in one write(2) as a rule. Of an Append
// that returns an error nothing is left in the file.
func (w *Writer) Append(records []byte) error {
	if err := pwrite(w.fd, records, w.end.Offset); err != nil {
		// What is there of it is less than a batch, and the room on the disk may be needed.
		_ = unix.Ftruncate(w.fd, w.end.Offset)
		return errs.Wrap("write log", Name(w.end.File), err)
	}
	w.end.Offset += int64(len(records))
	return nil
}

// Rewind goes back to a position that a writer had, to write once more what it may have
// written there, or a part of it. It returns false if there is nothing to write: a writer
// begins a new file only when it is done with the one before.
//
// Nothing is cut here, since a reader may be beyond the position already. It sees the same
// bytes there when they have been written again.
func (w *Writer) Rewind(p Position) bool {
	if p.File < w.end.File {
		return false
	}
	if p.File == w.end.File && p.Offset <= w.end.Offset {
		w.end.Offset = p.Offset
	}
	return true // else somebody has taken the log away: what is there to be written goes at its end
}

// Cut removes what follows the position: after a Rewind and its Append, of a file that was
// made longer by others.
func (w *Writer) Cut() error {
	return errs.Wrap("cut log", Name(w.end.File), unix.Ftruncate(w.fd, w.end.Offset))
}

// Rotate begins the next file and removes the one that is too old then.
func (w *Writer) Rotate() error {
	if err := w.open(w.end.File + 1); err != nil {
		return errs.Wrap("begin log", Name(w.end.File+1), err)
	}
	if n := uint64(w.limits.Files); n > 0 && w.end.File > n {
		w.remove(w.end.File - n)
	}
	return nil
}

// remove removes a file in whichever form it is. The plain one goes first: whoever is
// compressing it sees by that, at the end, that nobody wants it any more.
func (w *Writer) remove(n uint64) {
	_ = unix.Unlinkat(w.dir, Name(n), 0)
	_ = unix.Unlinkat(w.dir, CompressedName(n), 0)
}

// prune removes all that is older than the limit. What cannot be removed stays until the next
// time: it keeps nobody from writing.
func (w *Writer) prune() {
	if w.limits.Files <= 0 {
		return
	}
	list, err := files(w.dir)
	if err != nil {
		return
	}
	for _, f := range list {
		if f.N+uint64(w.limits.Files) > w.end.File {
			return
		}
		w.remove(f.N)
	}
}

func pread(fd int, b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// pwrite writes all of b, or says why not.
func pwrite(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
