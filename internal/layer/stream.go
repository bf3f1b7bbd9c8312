package layer

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cortenhq/corten/internal/errs"
)

// The tar flows in blocks: one goroutine fills them, which is where decompression happens,
// one hashes them, and the parser reads them. A block of this size is still in the second
// level cache when the second reader comes to it.
const (
	blockSize  = 256 << 10 // bytes
	blockCount = 12
)

// block is a piece of the tar; left counts the readers that are not done with it.
type block struct {
	b    []byte
	left atomic.Int32
}

// stream is the tar on its way. Its Read is for the parser alone.
type stream struct {
	free    chan *block
	toHash  chan *block
	toParse chan *block
	work    sync.WaitGroup

	// Written by the filling and hashing goroutines; to be read when the channels are
	// closed (end) and after wait (the others).
	end  error // why there is no more: io.EOF after the whole tar
	size int64
	sum  hash.Hash

	now  *block // what the parser reads
	rest []byte // of now
}

func newStream(ctx context.Context, r io.Reader, max int64) *stream {
	s := &stream{
		free:    make(chan *block, blockCount),
		toHash:  make(chan *block, blockCount),
		toParse: make(chan *block, blockCount),
		sum:     sha256.New(),
	}
	for range blockCount {
		s.free <- &block{} // the memory comes with the first use
	}
	s.work.Add(2)
	go func() {
		defer s.work.Done()
		s.end = s.fill(ctx, r, max)
		close(s.toParse)
		close(s.toHash)
	}()
	go func() {
		defer s.work.Done()
		for b := range s.toHash {
			s.sum.Write(b.b)
			s.release(b)
		}
	}()
	return s
}

func (s *stream) fill(ctx context.Context, r io.Reader, max int64) error {
	for {
		var b *block
		select {
		case b = <-s.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.b == nil {
			b.b = make([]byte, blockSize)
		}
		n, err := fillBlock(r, b.b[:blockSize])
		s.size += int64(n)
		if s.size > max {
			return errs.Newf(errs.Corrupt, op, "", "the layer unpacks to more than "+strconv.FormatInt(max, 10)+" bytes")
		}
		b.b = b.b[:n]
		b.left.Store(2)
		s.toHash <- b // has room for every block there is, as has the other
		s.toParse <- b
		if err != nil {
			return err
		}
	}
}

// fillBlock is io.ReadFull but keeps r's own error.
func fillBlock(r io.Reader, b []byte) (n int, err error) {
	for idle := 0; n < len(b) && err == nil; idle++ {
		var k int
		if k, err = r.Read(b[n:]); k > 0 {
			n += k
			idle = 0
		} else if idle > 100 && err == nil {
			return n, io.ErrNoProgress
		}
	}
	return n, err
}

func (s *stream) release(b *block) {
	if b.left.Add(-1) == 0 {
		s.free <- b
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.now != nil {
			s.release(s.now)
			s.now = nil
		}
		b, ok := <-s.toParse
		if !ok {
			return 0, s.end
		}
		s.now, s.rest = b, b.b
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// wait returns when nobody reads the source any more and the sum is made.
func (s *stream) wait() { s.work.Wait() }

// tape stands between the stream and the tar reader and remembers what archive/tar does
// not tell: what an error was about, whether the tar ended as a tar does, and the very
// bytes, for a recipe.
type tape struct {
	in     *stream
	broken error     // the stream's own error, if it was not the end
	tail   [512]byte // the last bytes read since rewind
	filled int       // how much of tail is that
	scribe *scribe   // nil if nobody wants a recipe
	object bool      // what is read now is the content of an object
	passed int64     // bytes of it
}

// rewind forgets the tail. It is called before each header.
func (t *tape) rewind() { t.filled = 0 }

func (t *tape) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	if err != nil && err != io.EOF {
		t.broken = err
	}
	switch {
	case t.scribe == nil:
	case t.object:
		t.passed += int64(n)
	default:
		t.scribe.bytes(p[:n])
	}
	k := min(n, len(t.tail))
	copy(t.tail[:], t.tail[k:])
	copy(t.tail[len(t.tail)-k:], p[n-k:n])
	t.filled = min(len(t.tail), t.filled+k)
	return n, err
}

// ended reports whether a block of zeros was the last thing read. A tar ends with two; one
// will do, as it does for other readers.
func (t *tape) ended() bool { return t.filled == len(t.tail) && t.tail == [512]byte{} }
