package keeper

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
)

// batch is what goes to the log at once: a range of a stream's spool that begins and ends
// where records do, the time that its records get, and where in the log they go. These
// four give the same bytes whenever they are formatted.
type batch struct {
	stream   logs.Stream
	from, to int64 // in the spool
	time     int64 // ns since 1970
	at       logs.Position
}

// kind says what is under way, and so what who adopts does first.
type kind uint8

const (
	nothing kind = iota // nothing: go on from entry.from
	writing             // entry.batch is being written: write it again
	erasing             // the stream's spool was all logged: erase it, and go on from 0
)

// entry is what the journal says: the last one that is whole counts.
type entry struct {
	kind kind
	batch
	done     [2]int64 // of each stream, what of its spool is in the log
	dropping [2]bool  // of each stream, that what comes next is the rest of a line that was dropped
}

// journal is a file of two places for entries, written in turn. A place that was torn by
// the end of its writer does not have the right sum, and the other one counts: then what
// the torn one was about had not begun.
type journal struct {
	fd  int
	seq uint64
	buf [entryLen]byte
}

const (
	entryMagic = 0x314a4b43 // "CKJ1"
	entryLen   = 96
	entryPlace = 128
)

// openJournal opens or makes the journal and returns what it says.
func openJournal(path string) (*journal, entry, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600) })
	if err != nil {
		return nil, entry{}, err
	}
	j := &journal{fd: high(fd)}
	var last entry
	for place := range int64(2) {
		n, err := retry(func() (int, error) { return unix.Pread(j.fd, j.buf[:], place*entryPlace) })
		if err != nil {
			unix.Close(j.fd)
			return nil, entry{}, err
		}
		if e, seq, ok := decode(j.buf[:n]); ok && seq > j.seq {
			last, j.seq = e, seq
		}
	}
	return j, last, nil
}

func (j *journal) write(e *entry) error {
	j.seq++
	e.encode(j.buf[:], j.seq)
	n, err := unix.Pwrite(j.fd, j.buf[:], int64(j.seq&1)*entryPlace)
	if err == nil && n < len(j.buf) {
		err = unix.ENOSPC
	}
	if err != nil {
		j.seq-- // the same place again: the other one is the one that is whole
	}
	return err
}

func (e *entry) encode(b []byte, seq uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], entryMagic)
	b[4], b[5], b[6], b[7] = byte(e.kind), byte(e.stream), bit(e.dropping[0]), bit(e.dropping[1])
	le.PutUint64(b[8:], seq)
	le.PutUint64(b[16:], uint64(e.from))
	le.PutUint64(b[24:], uint64(e.to))
	le.PutUint64(b[32:], uint64(e.time))
	le.PutUint64(b[40:], e.at.File)
	le.PutUint64(b[48:], uint64(e.at.Offset))
	le.PutUint64(b[56:], uint64(e.done[0]))
	le.PutUint64(b[64:], uint64(e.done[1]))
	clear(b[72:88])
	le.PutUint64(b[88:], sum(b[:88]))
}

func decode(b []byte) (e entry, seq uint64, ok bool) {
	le := binary.LittleEndian
	if len(b) < entryLen || le.Uint32(b) != entryMagic || le.Uint64(b[88:]) != sum(b[:88]) || b[4] > byte(erasing) || b[5] > 1 {
		return e, 0, false
	}
	e.kind, e.stream = kind(b[4]), logs.Stream(b[5])
	e.dropping = [2]bool{b[6] != 0, b[7] != 0}
	e.from, e.to, e.time = int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	e.at = logs.Position{File: le.Uint64(b[40:]), Offset: int64(le.Uint64(b[48:]))}
	e.done = [2]int64{int64(le.Uint64(b[56:])), int64(le.Uint64(b[64:]))}
	return e, le.Uint64(b[8:]), true
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// sum is FNV-1a: it has to tell a torn write from a whole one, and nobody attacks it.
func sum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
