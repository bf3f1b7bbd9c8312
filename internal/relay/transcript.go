package relay

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/spec"
)

// Transcript is the log of a container in the foreground, which its starter writes beside
// showing the output. It ends with the starter, and the container with both; so there is
// nothing to recover, as a keeper has. A log that cannot be written keeps nobody from
// working: the output has been shown.
type Transcript struct {
	mu     sync.Mutex
	w      *logs.Writer
	limits logs.Limits
	lines  [2][]byte // what has come of a line, by stream
	batch  []byte
}

// NewTranscript begins the log of a container that is kept when it has ended, in its folder; nil,
// which takes all calls, if none is wanted.
func NewTranscript(folder string, c *spec.Container) (*Transcript, error) {
	if c.Life.Remove || c.Life.Log.Off {
		return nil, nil
	}
	size, files := c.Life.Log.Limits()
	t := &Transcript{limits: logs.Limits{Size: size, Files: files}}
	var err error
	t.w, err = logs.OpenWriter(folder, t.limits)
	return t, err
}

// Tee returns a writer that shows what it gets on to, and then logs it.
func (t *Transcript) Tee(to io.Writer, s logs.Stream) io.Writer {
	if t == nil {
		return to
	}
	return teeWriter{t, to, s}
}

type teeWriter struct {
	t  *Transcript
	to io.Writer
	s  logs.Stream
}

func (w teeWriter) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.t.add(w.s, b)
	return n, err
}

// add logs what has come. The rest of a line waits for its end.
func (t *Transcript) add(s logs.Stream, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now().UnixNano()
	line := append(t.lines[s], b...)
	for len(line) > 0 {
		i := bytes.IndexByte(line[:min(len(line), logs.MaxContent+1)], '\n')
		switch {
		case i >= 0:
			t.record(logs.Record{Time: now, Stream: s, Content: line[:i]})
			line = line[i+1:]
			continue
		case len(line) >= logs.MaxContent:
			t.record(logs.Record{Time: now, Stream: s, Partial: true, Content: line[:logs.MaxContent]})
			line = line[logs.MaxContent:]
			continue
		}
		break
	}
	t.lines[s] = append(t.lines[s][:0], line...)
	t.flush()
}

func (t *Transcript) record(r logs.Record) {
	if int64(len(t.batch)+logs.HeadLen+len(r.Content)+1) > t.w.Room() {
		t.flush()
		_ = t.w.Rotate()
	}
	t.batch = logs.Append(t.batch, r)
}

func (t *Transcript) flush() {
	if len(t.batch) > 0 {
		_ = t.w.Append(t.batch)
		t.batch = t.batch[:0]
	}
}

// Close logs lines that have no end, and ends the log, which is durable then: who is told that the
// container has ended finds its last words after a power cut, too.
func (t *Transcript) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, line := range t.lines {
		t.lines[s] = nil
		if len(line) > 0 {
			t.record(logs.Record{Time: time.Now().UnixNano(), Stream: logs.Stream(s), Partial: true, Content: line})
		}
	}
	t.flush()
	_ = t.w.Sync() // as with Append: the container's end is not to be missed for its log
	t.w.Close()
}
