package crash_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The writer is a copy of this test that runs in containers. It writes lines to stdout and
// stderr of which both sides know every byte, and notes each one that write(2) took in a
// file that is mapped on both sides: what it has noted outlives it, whatever is killed.
const writerName = "crash-writer"

// notes is the file of a writer.
type notes struct {
	begun [2]atomic.Uint64 // of stdout and stderr, the line that was begun last
	taken [2]atomic.Uint64 // the line that the kernel took last
	runs  atomic.Uint64    // how often the writer was started
	twice atomic.Uint64    // how often while another one ran
	holes atomic.Uint64    // how many of these are filled
	hole  [64]atomic.Uint64
}

// cut is a line that was begun and not taken: its writer was killed.
func (n *notes) cut(stream int, line uint64) bool {
	for i := range n.hole {
		if n.hole[i].Load() == line<<1|uint64(stream) {
			return true
		}
	}
	return n.begun[stream].Load() == line && n.taken[stream].Load() < line
}

func openNotes(path string) (*notes, *os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Truncate(4096); err != nil {
		return nil, nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*notes)(unsafe.Pointer(&b[0])), f, nil
}

// line is a line of a stream, with its end. One in twenty is longer than a log record.
func line(stream int, n uint64) []byte {
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], n)
	binary.LittleEndian.PutUint64(b[8:], uint64(stream))
	_, _ = h.Write(b[:])
	r := h.Sum64()
	size := r >> 8 % 200
	if r%20 == 0 {
		size = 16<<10 + r>>8%(30<<10)
	}
	text := fmt.Sprintf("%016x %d %d ", r, stream, n)
	return append([]byte(text+strings.Repeat(string('a'+rune(r>>40%26)), int(size))), '\n')
}

// write is the program of the writer: NOTES LINES STATUS MICROSECONDS. It writes so many
// lines, with a pause now and then, and ends with the status.
func write(args []string) int {
	if len(args) != 4 {
		return 99
	}
	n, f, err := openNotes(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 98
	}
	var number [3]int
	for i, a := range args[1:] {
		if number[i], err = strconv.Atoi(a); err != nil {
			return 99
		}
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		n.twice.Add(1)
	}
	n.runs.Add(1)
	for s := range 2 { // what a writer before has begun
		if b := n.begun[s].Load(); b > n.taken[s].Load() {
			n.hole[(n.holes.Add(1)-1)%64].Store(b<<1 | uint64(s))
		}
	}
	for i := range number[0] {
		s := i & 1
		if i%7 == 0 {
			s = 0
		}
		if err := n.put(s); err != nil {
			return 97
		}
		if i%16 == 15 {
			time.Sleep(time.Duration(number[2]) * time.Microsecond)
		}
	}
	return number[1]
}

// put writes the next line.
func (n *notes) put(stream int) error {
	next := n.begun[stream].Add(1)
	for b := line(stream, next); len(b) > 0; {
		m, err := unix.Write(stream+1, b)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return err
		}
		b = b[m:]
	}
	n.taken[stream].Store(next)
	return nil
}
