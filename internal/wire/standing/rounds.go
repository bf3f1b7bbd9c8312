package standing

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// Rounds are the looks of one of many keepers. Each has the rules made again for all: where more
// containers are connected each looks as much seldomer, so that together they look once in share.
type Rounds struct {
	table string
	wired []byte // the folder of documents, with a 0 after it
	due   int64
	fails int // how often the rules were gone, one time after the other
	mem   [messageSize]byte
}

// Times in ns.
const (
	second = int64(1e9)
	least  = 10 * second // between two looks of one keeper
	most   = 120 * second
	share  = 1 * second
)

// NewRounds are looks for the table of a run folder. The first is not at once: it was there just now.
func NewRounds(run string) Rounds {
	return Rounds{table: Table(run), wired: append([]byte(run+"/net/wired"), 0)}
}

// Turn looks if it is time to, and reports whether the rules have to be made again; next is when to
// call it again. now is of a monotonic clock, in ns. It leaves no garbage.
func (r *Rounds) Turn(now int64) (gone bool, next int64) {
	if r.due != 0 && now < r.due {
		return false, r.due
	}
	if r.due != 0 {
		there, err := look(r.table, r.mem[:])
		gone = !there && err == nil
	}
	r.fails++
	if !gone {
		r.fails = 0
	}
	r.due = now + r.pause()
	return gone, r.due
}

// pause is how long to wait until the next look: not the same for keepers that were started at
// once, and longer when making the rules has not helped.
func (r *Rounds) pause() int64 {
	every := min(max(least, share*int64(r.count()))<<min(r.fails/2, 8), most)
	var dice [1]byte
	_, _ = unix.Getrandom(dice[:], 0)
	return every*3/4 + every/(2*math.MaxUint8)*int64(dice[0])
}

// count is about how many containers are connected, as far as that matters.
func (r *Rounds) count() (count int) {
	dir, err := kernel.OpenPath(r.wired, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0
	}
	defer unix.Close(dir)
	var b [2048]byte
	for count < int(most/share) {
		n, err := unix.ReadDirent(dir, b[:])
		if err != nil || n <= 0 {
			break
		}
		for e := b[:n]; len(e) > 18; count++ {
			e = e[binary.NativeEndian.Uint16(e[16:]):] // d_reclen, getdents64(2)
		}
	}
	return count
}
