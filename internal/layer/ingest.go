package layer

import (
	"context"
	"runtime"
	"sync"

	"github.com/cortenhq/corten/internal/oci"
)

// Small files are gathered, back to back, in batches that workers take and store one file
// after the other. So memory is bounded by the number of batches, and a tar of tiny files
// does not pay for a hand-over each.
const (
	batchBytes = maxSmall
	batchFiles = 64 // few enough that the last batches do not keep one worker alone for long
	maxWorkers = 6  // with two batches each and one being gathered: 13 MiB
)

// batch is files on their way to the store.
type batch struct {
	buf   []byte
	files []file
}

// file is a part of a batch's buffer, the content of an item of the parser.
type file struct {
	item   int
	lo, hi int
}

// named is what the store called the content of an item.
type named struct {
	item   int
	object oci.Digest
}

// ingest gives small files to the store. One goroutine, the parser's, calls its methods.
type ingest struct {
	objects Objects
	ctx     context.Context
	fail    context.CancelCauseFunc
	work    chan *batch
	free    chan *batch
	unmade  int // batches not yet allocated
	now     *batch
	workers sync.WaitGroup

	mu     sync.Mutex
	failed error
	names  []named
}

func newIngest(ctx context.Context, objects Objects, fail context.CancelCauseFunc) *ingest {
	workers := min(max(runtime.GOMAXPROCS(0), 2), maxWorkers)
	batches := 2*workers + 1
	g := &ingest{
		objects: objects,
		ctx:     ctx,
		fail:    fail,
		work:    make(chan *batch, batches),
		free:    make(chan *batch, batches),
		unmade:  batches,
	}
	for range workers {
		g.workers.Go(g.worker)
	}
	return g
}

func (g *ingest) worker() {
	for b := range g.work {
		names := make([]named, 0, len(b.files))
		var err error
		for _, f := range b.files {
			var d oci.Digest
			if err = g.ctx.Err(); err == nil {
				d, err = g.objects.PutBytes(b.buf[f.lo:f.hi])
			}
			if err != nil {
				break
			}
			names = append(names, named{f.item, d})
		}
		g.mu.Lock()
		g.names = append(g.names, names...)
		if err != nil && g.failed == nil {
			g.failed = err
			g.fail(err)
		}
		g.mu.Unlock()
		b.buf, b.files = b.buf[:0], b.files[:0]
		g.free <- b
	}
}

// space returns room for n bytes, at most maxSmall, of an item's content; they are to be
// filled in before the next call. It fails when the context has ended.
func (g *ingest) space(item, n int) ([]byte, error) {
	if g.now != nil && (len(g.now.files) == batchFiles || cap(g.now.buf)-len(g.now.buf) < n) {
		g.flush()
	}
	if g.now == nil {
		if err := g.next(); err != nil {
			return nil, err
		}
	}
	b := g.now
	lo := len(b.buf)
	b.buf = b.buf[:lo+n]
	b.files = append(b.files, file{item, lo, lo + n})
	return b.buf[lo:], nil
}

func (g *ingest) next() error {
	select {
	case g.now = <-g.free:
		return nil
	default:
	}
	if g.unmade > 0 {
		g.unmade--
		g.now = &batch{buf: make([]byte, 0, batchBytes), files: make([]file, 0, batchFiles)}
		return nil
	}
	select {
	case g.now = <-g.free:
		return nil
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
}

func (g *ingest) flush() {
	if g.now != nil {
		g.work <- g.now // has room for all batches
		g.now = nil
	}
}

// finish stores what is left, unless the context has ended, and returns all names.
func (g *ingest) finish() ([]named, error) {
	g.flush()
	close(g.work)
	g.workers.Wait()
	return g.names, g.failed
}
