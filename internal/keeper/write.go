package keeper

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
)

// logWriter is how a batch gets to the log. A container that may wait waits while write(2)
// does. For one that may not, another thread writes, and its output is taken meanwhile.
type logWriter struct {
	busy   bool
	since  int64 // when it began, ns by the monotonic clock
	midway bool  // the batch ends in the middle of a line
	done   chan error
	event  int // counts what is done, for epoll; -1: there was no need yet
}

// slow is how long a write may take before a container that may not wait loses lines, and
// before the time counts as blocked, in ns.
const slow = 100 * 1e6

func newWriter() logWriter {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return logWriter{event: -1}
	}
	return logWriter{event: high(fd), done: make(chan error, 1)}
}

// write writes the batch that the journal is about. When the writer is not busy afterwards,
// it is done, or has failed.
func (p *pump) write(records []byte, midway bool) {
	w := &p.writer
	w.since, w.midway = p.now(), midway
	if !p.rules.NonBlocking || w.event < 0 {
		p.wrote(appendTo(p.log, records, p.pending))
		return
	}
	w.busy = true
	go w.write(p.log, records, p.pending)
	runtime.Gosched() // most writes are done when this returns
	p.written()
}

// write runs in the other thread.
func (w *logWriter) write(log *logs.Writer, records []byte, again bool) {
	w.done <- appendTo(log, records, again)
	_, _ = unix.Write(w.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func appendTo(log *logs.Writer, records []byte, again bool) error {
	err := log.Append(records)
	if err == nil && again {
		err = log.Cut()
	}
	return err
}

// written looks whether the other thread is done.
func (p *pump) written() {
	select {
	case err := <-p.writer.done:
		p.wrote(err)
	default:
	}
}

// await waits for the other thread.
func (p *pump) await() {
	if p.writer.busy {
		p.wrote(<-p.writer.done)
	}
}

// wrote is for when the batch that the journal is about is in the log, or could not be
// written.
func (p *pump) wrote(err error) {
	p.writer.busy = false
	now := p.now()
	if err != nil {
		p.pending = true
		p.fail(err)
		return
	}
	s := p.streams[p.last.stream]
	s.from, s.midway, p.pending = p.last.to, p.writer.midway, false
	if took := now - p.writer.since; took >= slow {
		p.counters.slow(took)
	}
	p.counters.works(now)
}
