package seal

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Book is the seals of objects. It may be used by many goroutines.
type Book struct {
	path  func(oci.Digest) string
	since time.Time // what was stored before has to be compared with its name

	mu    sync.Mutex
	seals map[oci.Digest]Seal
	made  int // of them, those that are of this book's making
}

// NewBook is an empty one. The function path tells where an object is.
func NewBook(path func(oci.Digest) string) *Book {
	// File systems keep times by a clock that ticks 100 to 1,000 times a second.
	return &Book{path: path, since: time.Now().Add(20 * time.Millisecond), seals: map[oci.Digest]Seal{}}
}

// Seal returns the seal of an object that is in the book.
func (b *Book) Seal(d oci.Digest) (Seal, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.seals[d]
	return s, ok
}

// seal seals an object, unless it is in the book, and enters it. The bytes of one that has long been
// there unsealed are compared with its name first: a seal over others would make them look right, to
// whoever comes next, and nothing takes it off again.
func (b *Book) seal(d oci.Digest) error {
	if _, ok := b.Seal(d); ok {
		return nil
	}
	f, err := os.Open(b.path(d))
	if err != nil {
		return errs.Wrap("seal object", string(d), err)
	}
	defer f.Close()
	s, sealed, err := of(f)
	if err == nil && !sealed {
		if b.old(f) {
			err = compare(f, d)
		}
		if err == nil {
			s, err = file(f)
		}
	}
	if err != nil {
		return errs.Wrap("seal object", string(d), err)
	}
	b.mu.Lock()
	b.seals[d] = s
	if !sealed {
		b.made++
	}
	b.mu.Unlock()
	return nil
}

// Made is how many objects had no seal before they came into the book.
func (b *Book) Made() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.made
}

func (b *Book) old(f *os.File) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err != nil || time.Unix(st.Mtim.Unix()).Before(b.since)
}

// compare reads an object and compares it with its name.
func compare(f *os.File, d oci.Digest) error {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if !d.Matches(h) {
		return errs.Newf(errs.Corrupt, "", "", "the bytes on disk are others").
			WithHint("remove the images that have it and pull them again; if this comes back, check the disk")
	}
	return nil
}

// workers is how many objects are sealed at once. Each waits for its own few blocks to reach the
// disk, so more of them than processors are of use.
const workers = 8

// Batch is a number of objects on their way into the book.
type Batch struct {
	book *Book
	ctx  context.Context
	fail context.CancelCauseFunc
	next chan oci.Digest
	work sync.WaitGroup
}

// Batch begins one. Wait has to be called.
func (b *Book) Batch(ctx context.Context) *Batch {
	t := &Batch{book: b, next: make(chan oci.Digest, 4*workers)}
	t.ctx, t.fail = context.WithCancelCause(ctx)
	for range workers {
		t.work.Go(func() {
			for d := range t.next {
				if t.ctx.Err() != nil {
					continue // drain: Add must not wait for ever
				}
				if err := b.seal(d); err != nil {
					t.fail(err)
				}
			}
		})
	}
	return t
}

// Add has an object sealed. It waits while too many others are being sealed.
func (t *Batch) Add(d oci.Digest) { t.next <- d }

// Wait ends the batch when all of its objects are sealed, or when one cannot be.
func (t *Batch) Wait() error {
	close(t.next)
	t.work.Wait()
	defer t.fail(nil)
	err := context.Cause(t.ctx)
	if err == context.Canceled || err == context.DeadlineExceeded {
		return errs.New(errs.Canceled, "seal objects", "", err)
	}
	return err
}
