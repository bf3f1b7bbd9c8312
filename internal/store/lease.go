package store

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Lease is a process at work on the store. What it puts in or uses stays until Close, and
// after that if a reference, hold or record leads to it. It is a file, leases/NAME.live,
// that is locked as long as the process lives: the kernel itself reports a dead one. In the
// file is a line for each thing relied on, written before looking whether the thing is
// there. A Lease may be used by many goroutines.
type Lease struct {
	s    *Store
	name string
	dir  string       // tmp/NAME, for what the lease is making; it goes with it
	bufs sync.Pool    // of *[chunk]byte
	made atomic.Int64 // how many names temp gave out

	mu   sync.Mutex // for the files: their offsets and locks belong to all goroutines
	file *os.File   // the journal; also what SyncFS reports errors since
	size int64      // bytes of whole lines in it
	lock *os.File   // the store's lock

	unsynced   atomic.Int64 // bytes written since the last flush began
	flushing   atomic.Bool
	background sync.WaitGroup // for the flush, which uses lock
}

// Words that begin a line of a lease; the rest is the digest or tree id.
const (
	lineBlob     = "blob "
	lineManifest = "manifest " // or index: with all that it leads to
	lineLayer    = "layer "
	lineObject   = "object "
	lineTree     = "tree "
)

const liveSuffix = ".live"

// Lease begins work. The purpose is for people who look into leases/: "pull debian:12".
// The first lease after a boot also throws away what a power cut may have damaged.
func (s *Store) Lease(purpose string) (*Lease, error) {
	const op = "begin lease"
	if err := s.distrust(); err != nil {
		return nil, s.wrap(op, "", err)
	}
	lock, err := os.Open(s.path("lock"))
	if err != nil {
		return nil, s.wrap(op, "", err)
	}
	name := rand.Text()
	l := &Lease{s: s, lock: lock, name: name, dir: s.path("tmp", name)}
	if err := l.begin(purpose); err != nil {
		lock.Close()
		return nil, s.wrap(op, "", err)
	}
	return l, nil
}

func (l *Lease) begin(purpose string) error {
	if _, err := l.s.buryDead(); err != nil {
		return err
	}
	f, err := disk.OpenLocked(l.s.path("leases", l.name+liveSuffix), os.O_RDWR|os.O_APPEND|os.O_EXCL, disk.Exclusive)
	if err != nil {
		return err
	}
	l.file = f
	err = l.append("# pid " + strconv.Itoa(os.Getpid()) + " " + printable(purpose) + "\n")
	if err == nil {
		// After the lease: a directory without a live lease of its name is garbage.
		err = os.Mkdir(l.dir, 0o700)
	}
	if err != nil {
		l.Close()
	}
	return err
}

// printable keeps a text on one line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// Close ends the lease. Its unfinished files go with it.
func (l *Lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	l.background.Wait()
	err := os.RemoveAll(l.dir)
	if rerr := remove(l.file.Name()); err == nil {
		err = rerr
	}
	l.file.Close()
	l.lock.Close()
	l.file = nil
	return l.s.wrap("end lease", "", err)
}

// rely writes down that the lease depends on a thing, then looks whether the thing is
// there. Under the shared lock: a collection is over before, or will read the line.
func (l *Lease) rely(word, name, path string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := l.shared()
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := l.append(word + name + "\n"); err != nil {
		return false, err
	}
	return exists(path)
}

// shared takes the store's lock through the lease's own descriptor. l.mu is held.
func (l *Lease) shared() (unlock func(), err error) {
	if l.file == nil {
		return nil, errs.Newf(errs.Internal, "use lease", l.name, "it has ended")
	}
	if err := disk.Flock(l.lock, disk.Shared); err != nil {
		return nil, err
	}
	return func() { disk.Funlock(l.lock) }, nil
}

// append writes whole lines to the journal. l.mu is held, or nobody else has l yet.
func (l *Lease) append(lines string) error {
	if _, err := l.file.WriteString(lines); err != nil {
		l.file.Truncate(l.size) // a part of a line would spoil the next one
		return err
	}
	l.size += int64(len(lines))
	return nil
}

// temp is a new path for something in the making.
func (l *Lease) temp(what string) string {
	return l.dir + "/" + what + "-" + strconv.FormatInt(l.made.Add(1), 10)
}

// Use relies on an image: the manifest or index d and all that it leads to. If d is not
// here the error's kind is NotFound.
func (l *Lease) Use(d oci.Digest) error {
	if err := checkDigest("use image", d); err != nil {
		return err
	}
	ok, err := l.rely(lineManifest, string(d), l.s.layout.BlobPath(d))
	if err == nil && !ok {
		return errs.New(errs.NotFound, "use image", string(d), nil)
	}
	return l.s.wrap("use image", string(d), err)
}

// buryDead removes what leases of dead processes left and counts them.
func (s *Store) buryDead() (dead int, err error) {
	names, err := s.list("leases")
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if name, live := strings.CutSuffix(n, liveSuffix); live {
			done, err := s.bury(name)
			if err != nil {
				return dead, err
			}
			if done {
				dead++
			}
		}
	}
	return dead, nil
}

// bury removes the lease of that name if its owner is dead. Should the owner be just about
// to lock the file, it finds it removed and makes another (disk.OpenLocked).
func (s *Store) bury(name string) (bool, error) {
	path := s.path("leases", name+liveSuffix)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := disk.Flock(f, disk.TryExclusive); err != nil {
		if errs.Is(err, errs.Busy) {
			return false, nil
		}
		return false, err
	}
	// The unfinished files first: as long as the lease is there somebody will see to them.
	if err := os.RemoveAll(s.path("tmp", name)); err != nil {
		return false, err
	}
	return true, remove(path)
}
