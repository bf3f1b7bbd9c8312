package keeper

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
)

// stream is one way out of the container, from the descriptor it comes from to its spool.
//
// The spool is a file on the file system of RUN. Offsets in it count all that came since it
// was last erased:
//
//	0 ... erased ... from ......... taken
//	        holes    in the log     not in the log yet
//
// The data come by splice(2) from a FIFO: the kernel moves the file's end and the FIFO's
// beginning before it looks whether the process is being killed, so a byte is in one of
// them, and the file's size is what was taken. A terminal cannot be spliced into a file.
// It is read(2) right into pages of the spool that are mapped, all zero until then: whoever
// adopts finds what was read last by looking for the last byte that is not zero.
type stream struct {
	name    logs.Stream
	source  int // FIFO, or master of a terminal; -1: there is none
	spool   int
	window  []byte // the mapped spool of a terminal
	from    int64
	taken   int64
	erased  int64
	big     bool  // the FIFO was found full, and made larger
	ready   bool  // there may be something to read
	ended   bool  // nobody can write to it any more
	came    int64 // when something came last, ns by the monotonic clock
	midway  bool  // the last record was a part of a line
	dropped bool  // a part of the line that comes now was dropped: the rest is too
}

const (
	// pipeSize is what a FIFO gets when it was found full, in bytes: the most that the
	// kernel gives to all (fs.pipe-max-size). Fewer turns move the same.
	pipeSize      = 1 << 20
	pipeSizeFirst = 64 << 10
	// spoolLimit is how much may be in the spool and not in the log, in bytes.
	spoolLimit = 1 << 20
	// windowSize is the spool of a terminal, in bytes.
	windowSize = 64 << 10
	// A terminal's read returns at most its buffer (N_TTY_BUF_SIZE), in bytes.
	terminalRead = 4 << 10
	// windowLow is so little room in that spool that it is time to erase it.
	windowLow = 2 * terminalRead
	// holes are made when this much of the spool is in the log, in bytes.
	holeSize = 256 << 10
)

// open opens or makes the spool and finds out how much is in it.
func (s *stream) open(path string) error {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600) })
	if err != nil {
		return err
	}
	s.spool = high(fd)
	var st unix.Stat_t
	if err := unix.Fstat(s.spool, &st); err != nil {
		return err
	}
	s.taken = st.Size
	return nil
}

// openWindow is what a terminal needs besides. The pages are there before anything is read
// into them: where there is no room for them, nothing must have been read.
func (s *stream) openWindow() error {
	if err := unix.Fallocate(s.spool, 0, 0, windowSize); err != nil {
		return err
	}
	if s.window == nil {
		b, err := unix.Mmap(s.spool, 0, windowSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		s.window = b
	}
	s.taken = int64(len(bytes.TrimRight(s.window, "\x00")))
	return nil
}

// fill takes what has come, up to limit bytes that are not in the log. It clears ready when
// there is no more, or no room: then full is true.
func (s *stream) fill(limit int64) (full bool, err error) {
	room := limit - (s.taken - s.from)
	if s.window != nil {
		room = windowSize - s.taken
	}
	if room <= 0 {
		return true, nil
	}
	n, err := s.take(room)
	switch {
	case n > 0:
		s.taken += int64(n)
		if s.window == nil && !s.big && n >= pipeSizeFirst {
			s.big = true
			// Refused to those without a privilege who have many: then it stays as it is.
			_, _ = unix.FcntlInt(uintptr(s.source), unix.F_SETPIPE_SZ, pipeSize)
		}
	case err == unix.EAGAIN:
		s.ready, err = false, nil
	case err == nil:
		s.ready, s.ended = false, true
	}
	return false, err
}

// take returns 0 and no error at the end.
func (s *stream) take(room int64) (n int, err error) {
	if s.window == nil {
		off := s.taken
		return retry(func() (int, error) {
			n, err := unix.Splice(s.source, nil, s.spool, &off, int(min(room, pipeSize)), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
			return int(n), err
		})
	}
	return readTerminal(s.source, s.window[s.taken:min(windowSize, s.taken+terminalRead)])
}

// readTerminal reads a master. It says EIO when nobody has the other side open.
func readTerminal(fd int, b []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(fd, b) })
	if err == unix.EIO {
		return 0, nil
	}
	return n, err
}

// discard takes what has come into b.
func (s *stream) discard(b []byte) (n int, err error) {
	n, err = readTerminal(s.source, b)
	switch {
	case err == unix.EAGAIN:
		s.ready, err = false, nil
	case n == 0 && err == nil:
		s.ready, s.ended = false, true
	}
	return max(n, 0), err
}

// forget gives back the room of what is in the log. The journal must say so already: who
// adopts may otherwise have to format it once more.
func (s *stream) forget() {
	if s.window != nil || s.from-s.erased < holeSize {
		return
	}
	// Where there are no holes, the room comes back when the spool is erased.
	_ = unix.Fallocate(s.spool, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.erased, s.from-s.erased)
	s.erased = s.from
}

// erase empties the spool. The journal must say that this is being done.
func (s *stream) erase() error {
	if err := unix.Ftruncate(s.spool, 0); err != nil {
		return err
	}
	s.from, s.taken, s.erased = 0, 0, 0
	if s.window == nil {
		return nil
	}
	return s.openWindow()
}

// buffer is memory outside of Go's heap, so that all of it can be given back when the
// container falls silent.
type buffer struct {
	b     []byte
	dirty bool
}

func (b *buffer) use() []byte {
	b.dirty = true
	return b.b
}

// buffers are what is read into, and what is written from.
type buffers struct{ in, out *buffer }

func newBuffer(size int) (*buffer, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return &buffer{b: b}, err
}

func (b *buffer) release() {
	if b.dirty {
		_ = unix.Madvise(b.b, unix.MADV_DONTNEED)
		b.dirty = false
	}
}

// high moves a descriptor out of the way of those that have a number of their own.
func high(fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	if err != nil {
		return fd
	}
	unix.Close(fd)
	return n
}
