package keeper

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/records"
)

// pump moves what comes out of the container to its log, so that wherever it is killed the
// next pump loses nothing and doubles nothing. It goes round in these steps, for one stream
// at a time; E is what the next pump finds in the journal if this one is killed there.
//
//	fill     FIFO -> spool           E is of the batch before, which is whole: writing it again
//	                                 changes nothing, and done says where to go on
//	format   spool -> memory         the same
//	rotate   a new file, if full     the same; but a batch whose file is not the highest is whole
//	                                 and is not touched: its file may be compressed already
//	journal  E becomes this batch    torn: the same. Whole: the batch is written as below, from the
//	                                 spool, with the time of E, so to the same bytes
//	write    memory -> log           E is this batch: it is written again, at the same place
//	forget   holes in the spool      below done of E only, so what E calls for is there
//	erase    journal says erasing, the spool is emptied, the journal says nothing: E says
//	         erasing, and it is done again; nothing was taken meanwhile
//
// When the log cannot be written the batch stays as it is in the journal, and is tried again
// every second.
type pump struct {
	folder    string
	logFolder string
	log       *logs.Writer // nil: none is kept, or it could not be opened
	rules     LogOrders
	journal   *journal
	streams   [2]*stream
	buffers
	writer   logWriter
	last     entry // what the journal says
	pending  bool  // last could not be written, and is to be written again
	retry    int64 // when to try again what could not be done, ns by the monotonic clock; 0: all is well
	rotated  bool  // a file was begun: there is one to compress
	deadline int64 // when to give up, once the container has ended
	counters *counters
	epoch    time.Time
}

const (
	inSize  = 256 << 10 // of spool that is formatted at once, bytes
	outSize = 1 << 20   // of a batch, bytes
	silence = 50 * 1e6  // ns after which a line without end is logged
	second  = 1e9       // ns
)

// openPump opens the spools in folder, and goes on with what the last pump was at. The
// streams have their sources already. A log that cannot be opened is tried again like one
// that cannot be written.
func openPump(folder, logFolder string, rules LogOrders, streams [2]*stream) (*pump, error) {
	p := &pump{folder: folder, logFolder: logFolder, rules: rules, streams: streams, epoch: time.Now(), counters: openCounters(folder), writer: newWriter()}
	var err error
	if p.in, err = newBuffer(inSize); err != nil {
		return nil, err
	}
	if p.out, err = newBuffer(outSize); err != nil {
		return nil, err
	}
	if p.journal, p.last, err = openJournal(folder + "/journal"); err != nil {
		return nil, errs.Wrap("open", folder+"/journal", err)
	}
	for i, name := range []string{"out.spool", "err.spool"} {
		if err := p.openStream(i, folder+"/"+name); err != nil {
			return nil, errs.Wrap("open", folder+"/"+name, err)
		}
	}
	if p.last.kind == erasing {
		err = p.streams[p.last.stream].erase()
		if err == nil {
			err = p.note(entry{})
		}
	}
	p.openLog()
	return p, errs.Wrap("erase spool", folder, err)
}

func (p *pump) openStream(i int, path string) error {
	s := p.streams[i]
	if err := s.open(path); err != nil {
		return err
	}
	done := p.last.done[i]
	s.dropped = p.last.dropping[i]
	if s.source >= 0 && isTerminal(s.source) {
		if err := s.openWindow(); err != nil {
			return err
		}
		// What was logged may end with bytes that are zero.
		if s.taken = max(s.taken, done); p.last.kind == writing && p.last.stream == s.name {
			s.taken = max(s.taken, p.last.to)
		}
	}
	s.from, s.erased = min(done, s.taken), 0
	return nil
}

// openLog opens the log, and sees to it that the batch of the journal is in it.
func (p *pump) openLog() {
	if p.rules.Off {
		if p.last.kind == writing {
			s := p.streams[p.last.stream]
			s.from = min(p.last.to, s.taken)
		}
		return
	}
	w, err := logs.OpenWriter(p.logFolder, limits(p.rules))
	if err != nil {
		p.fail(err)
		return
	}
	p.log = w
	if p.last.kind != writing {
		return
	}
	s := p.streams[p.last.stream]
	if s.from != p.last.from || p.last.to > s.taken || !w.Rewind(p.last.at) {
		s.from = max(s.from, min(p.last.to, s.taken))
		return
	}
	p.pending = true
	p.again()
}

// idle says whether the next batch may be written now.
func (p *pump) idle() bool { return p.retry == 0 && !p.writer.busy }

func limits(r LogOrders) logs.Limits { return logs.Limits{Size: r.Size, Files: r.Files} }

// order changes the rules for what comes from now on.
func (p *pump) order(r LogOrders) {
	p.await()
	p.rules = r
	switch {
	case p.log == nil:
		if p.retry == 0 {
			p.openLog()
		}
	case r.Off:
		if p.pending {
			p.streams[p.last.stream].from, p.pending = p.last.to, false
		}
		p.log.Close()
		p.log, p.retry = nil, 0
	default:
		p.log.SetLimits(limits(r))
	}
}

// note writes the journal: e, with where the streams are.
func (p *pump) note(e entry) error {
	for i, s := range p.streams {
		e.done[i], e.dropping[i] = s.from, s.dropped
	}
	if err := p.journal.write(&e); err != nil {
		return err
	}
	p.last = e
	for _, s := range p.streams {
		s.forget()
	}
	return nil
}

func (p *pump) now() int64 { return int64(time.Since(p.epoch)) }

// turn moves what is there. It returns when it wants to be called again though nothing has
// come, in ns by the monotonic clock; 0: at once; never: not.
func (p *pump) turn() (next int64) {
	now := p.now()
	if p.retry != 0 && now >= p.retry {
		p.retry = 0
		switch {
		case p.log == nil:
			p.openLog()
		case p.pending:
			p.again()
		}
	}
	next = never
	for _, s := range p.streams {
		if s.source < 0 {
			continue
		}
		if p.rules.Off {
			next = min(next, p.discard(s))
		} else {
			next = min(next, p.turnStream(s, now))
		}
	}
	if p.retry != 0 {
		next = min(next, p.retry)
	}
	return min(next, p.calm(now), p.counters.publish(p.folder, now, false))
}

// calm gives memory back when nothing has come for a while.
func (p *pump) calm(now int64) (next int64) {
	if !p.in.dirty && !p.out.dirty || p.writer.busy {
		return never
	}
	if quiet := max(p.streams[0].came, p.streams[1].came) + silence; now < quiet {
		return quiet
	}
	p.in.release()
	p.out.release()
	return never
}

const never = int64(1<<63 - 1)

func (p *pump) turnStream(s *stream, now int64) (next int64) {
	full := p.fill(s, now)
	if p.idle() && s.taken > s.from {
		p.drain(s, s.window != nil && full || !s.ready && now-s.came >= silence)
	}
	if p.idle() && s.taken == s.from {
		p.empty(s)
	}
	full = s.taken-s.from >= p.limit() || s.window != nil && s.taken == windowSize || s.dropped && !p.idle()
	late := never // when a write takes so long that it is time to drop
	if p.writer.busy {
		late = p.writer.since + slow
	}
	switch {
	case s.ready && full && p.rules.NonBlocking && (p.retry != 0 || now >= late):
		p.drop(s)
		return never
	case s.ready && !(full && !p.idle()):
		return 0
	case s.ready && p.rules.NonBlocking:
		return late
	case s.taken > s.from && p.idle():
		return s.came + silence
	}
	return never
}

// fill takes what has come, so much that a turn is worth its while.
func (p *pump) fill(s *stream, now int64) (full bool) {
	if s.dropped && p.idle() && (s.window == nil || windowSize-s.taken >= windowLow) {
		p.resume(s)
	}
	for s.ready && !s.dropped && !full && (!p.idle() || s.taken-s.from < holeSize) {
		before := s.taken
		var err error
		if full, err = s.fill(p.limit()); err != nil {
			p.fail(err) // there is no room for the spool
			return true
		}
		if s.taken > before {
			s.came = now
		}
	}
	return full
}

// limit is how much of a stream may be taken and not be in the log.
func (p *pump) limit() int64 {
	if p.rules.NonBlocking && p.rules.Buffer > 0 {
		return max(p.rules.Buffer, int64(logs.MaxRecord))
	}
	return spoolLimit
}

// drain writes what is in the spool, with flush also a line that has no end.
func (p *pump) drain(s *stream, flush bool) {
	for s.from < s.taken && p.idle() {
		b := p.in.use()[:min(inSize, s.taken-s.from)]
		n, err := retry(func() (int, error) { return unix.Pread(s.spool, b, s.from) })
		if err != nil || n == 0 {
			p.fail(err)
			return
		}
		b = b[:n]
		last := s.from+int64(n) == s.taken
		for len(b) > 0 && p.idle() {
			used := p.batch(s, b, flush && last)
			if used == 0 {
				break
			}
			b = b[used:]
		}
		if len(b) > 0 && last {
			return // a line that goes on
		}
	}
}

// batch logs as much of b, which is the spool from s.from on, as is whole records and goes
// into one file. It returns 0 if that is nothing.
func (p *pump) batch(s *stream, b []byte, flush bool) int {
	n, _ := records.Piece(b, flush)
	if n < 0 {
		return 0
	}
	first := int64(logs.HeadLen + n + 1)
	if first > p.log.Room() && p.log.Position().Offset > 0 {
		if err := p.log.Rotate(); err != nil {
			p.fail(err)
			return 0
		}
		p.rotated = true
	}
	e := entry{kind: writing, batch: batch{stream: s.name, from: s.from, time: time.Now().UnixNano(), at: p.log.Position()}}
	limit := min(max(first, p.log.Room()), outSize)
	out, used := records.Format(p.out.use()[:0], b, e.time, s.name, int(limit), flush)
	e.to = s.from + int64(used)
	if err := p.note(e); err != nil {
		p.fail(err)
		return 0
	}
	p.write(out, b[used-1] != '\n')
	return int(s.from - e.from)
}

// again writes the last batch once more, to the same bytes.
func (p *pump) again() {
	e := p.last
	s := p.streams[e.stream]
	b := p.in.use()
	if e.to-e.from > inSize {
		b = make([]byte, e.to-e.from) // of a program with other sizes
	}
	n, err := retry(func() (int, error) { return unix.Pread(s.spool, b[:e.to-e.from], e.from) })
	if err != nil {
		p.fail(err)
		return
	}
	out, _ := records.Format(p.out.use()[:0], b[:n], e.time, e.stream, 1<<62, true)
	p.write(out, n > 0 && b[n-1] != '\n')
}

// fail waits for a second before anything is tried again.
func (p *pump) fail(err error) {
	p.retry = p.now() + second
	p.counters.fails(p.now(), err)
}

// empty erases a spool that is wholly in the log, if it holds a page or more: an idle
// keeper holds nothing.
func (p *pump) empty(s *stream) {
	if s.taken < pageSize || s.ready && (s.window == nil || windowSize-s.taken >= windowLow) {
		return
	}
	err := p.note(entry{kind: erasing, batch: batch{stream: s.name}})
	if err == nil {
		err = s.erase()
	}
	if err == nil {
		err = p.note(entry{})
	}
	if err != nil {
		p.fail(err)
	}
}

const pageSize = 4096

// hurry is for when the container has ended: what is to be tried again is tried at once, and
// not for long.
func (p *pump) hurry() {
	p.deadline = p.now() + patience
	if p.retry != 0 {
		p.retry = 1
	}
}

// hopeless reports whether the log of a container that has ended is not to be waited for.
func (p *pump) hopeless(now int64) bool {
	return p.retry != 0 && !p.writer.busy && (now >= p.deadline || p.rules.NonBlocking)
}

// patience is how long the log of a container that has ended may be impossible to write,
// in ns, before the rest of it is given up.
const patience = 10 * second

// finish moves what is left when nobody can write any more, or when those who still can have
// been silent for a while. It returns true when all is in the log, which is durable then.
func (p *pump) finish(now int64) bool {
	for _, s := range p.streams {
		if s.source >= 0 && !s.ended && s.ready && p.hopeless(now) {
			p.drop(s) // the spool has no room for it
		}
		if s.source >= 0 && !s.ended && (s.ready || now-s.came < 2*silence) {
			return false
		}
		if p.rules.Off {
			continue
		}
		if s.from < s.taken && p.idle() {
			p.drain(s, true)
		}
		if s.from == s.taken && !p.pending && !p.writer.busy {
			continue
		}
		if !p.hopeless(now) {
			return false
		}
		p.giveUp(s)
	}
	_ = p.log.Sync() // a disk that fails keeps no container from having ended
	return true
}
