package keeper

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// What is done with output that has no place to go: none is kept (log-off), or the log
// cannot be written and the container must not wait (non-blocking).

// discard takes what comes and forgets it.
func (p *pump) discard(s *stream) (next int64) {
	for s.ready {
		n, err := s.discard(p.in.use())
		if err != nil {
			p.fail(err)
			return never
		}
		if n == len(p.in.b) {
			return 0 // others have a turn
		}
	}
	return never
}

// drop takes what comes and counts its lines. The part of a line that is at the end of the
// spool goes too, so that no line is in the log without its end.
func (p *pump) drop(s *stream) {
	if !s.dropped {
		p.cutLine(s)
	}
	for s.ready {
		n, err := s.discard(p.in.use())
		if err != nil {
			return // it stays where it is, and the container waits
		}
		p.counters.drops(bytes.Count(p.in.b[:n], []byte{'\n'}), n)
	}
}

// cutLine takes the beginning of a line from the end of the spool.
func (p *pump) cutLine(s *stream) {
	low := s.from
	if (p.pending || p.writer.busy) && p.last.stream == s.name {
		low = max(low, p.last.to) // the journal promises what is below
	}
	low = max(low, s.taken-inSize)
	b := p.in.use()[:s.taken-low]
	n, err := retry(func() (int, error) { return unix.Pread(s.spool, b, low) })
	if err != nil {
		return
	}
	end := low + int64(bytes.LastIndexByte(b[:n], '\n')) + 1
	if end > s.from {
		var last [1]byte
		_, err := unix.Pread(s.spool, last[:], end-1)
		s.midway = err == nil && last[0] != '\n'
	}
	if s.window != nil {
		clear(s.window[end:s.taken])
	} else if unix.Ftruncate(s.spool, end) != nil {
		return
	}
	p.counters.drops(0, int(s.taken-end))
	s.taken, s.dropped = end, true
	_ = p.note(p.last) // if it cannot be noted, half a line will be taken for a whole one
}

// giveUp counts what is in a spool as dropped.
func (p *pump) giveUp(s *stream) {
	for s.from < s.taken {
		b := p.in.use()[:min(inSize, s.taken-s.from)]
		n, err := retry(func() (int, error) { return unix.Pread(s.spool, b, s.from) })
		if err != nil || n == 0 {
			return
		}
		p.counters.drops(bytes.Count(b[:n], []byte{'\n'}), n)
		s.from += int64(n)
	}
}

// resume drops the rest of the line that the last drop ended in, and takes what follows.
func (p *pump) resume(s *stream) {
	for s.ready && s.dropped {
		b := p.in.use()[:1+terminalRead]
		n, err := s.discard(b[1:])
		if err != nil {
			p.fail(err)
			return
		}
		b = b[:n+1]
		end := bytes.IndexByte(b[1:], '\n') + 1
		if end == 0 {
			p.counters.drops(0, n)
			continue
		}
		p.counters.drops(1, end)
		s.dropped = false
		if b = b[end+1:]; s.midway {
			b = p.in.b[end : n+1] // with the newline: the line that is open in the log ends here
		}
		m, err := retry(func() (int, error) { return unix.Pwrite(s.spool, b, s.taken) })
		if err != nil {
			p.counters.drops(bytes.Count(b, []byte{'\n'}), len(b))
			p.fail(err)
			return
		}
		s.taken += int64(m)
		s.came = p.now()
	}
}
