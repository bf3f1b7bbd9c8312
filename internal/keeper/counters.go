package keeper

import (
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

// Counters are what an operator wants to know of a log that could not be written: the file
// counters, written when they have changed, at most once a second.
type Counters struct {
	BlockedSince int64 // ns since 1970; 0: the log is written
	BlockedTotal int64 // ns, without the time since BlockedSince
	DroppedLines int64
	DroppedBytes int64
	LogError     string // the last one; it stays when the log is written again
}

// ReadCounters reads the counters in folder; all are 0 if nothing was ever amiss.
func ReadCounters(folder string) (Counters, error) {
	var c Counters
	err := parse(folder, CountersName, func(name, value string) (err error) {
		switch name {
		case "blocked-since":
			c.BlockedSince, err = number(value)
		case "blocked-total-ns":
			c.BlockedTotal, err = number(value)
		case "dropped-lines":
			c.DroppedLines, err = number(value)
		case "dropped-bytes":
			c.DroppedBytes, err = number(value)
		case "log-error":
			c.LogError = value
		}
		return err
	})
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return c, err
}

// counters are Counters that are being counted.
type counters struct {
	Counters
	blocked int64 // since when, by the monotonic clock; 0: not
	due     int64 // when they may be published next
	changed bool
}

// openCounters goes on from what the last keeper counted. The time since it was blocked is
// counted as blocked: if it was killed, nobody wrote the log.
func openCounters(folder string) *counters {
	c := new(counters)
	if old, err := ReadCounters(folder); err == nil { // they are for people: no reason to stop
		c.Counters = old
	}
	if c.BlockedSince != 0 {
		c.BlockedTotal += max(0, time.Now().UnixNano()-c.BlockedSince)
		c.BlockedSince, c.changed = 0, true
	}
	return c
}

func (c *counters) fails(now int64, err error) {
	if err != nil && err.Error() != c.LogError {
		c.LogError, c.changed = err.Error(), true
	}
	if c.BlockedSince == 0 {
		c.BlockedSince, c.blocked, c.changed = time.Now().UnixNano(), now, true
	}
}

func (c *counters) works(now int64) {
	if c.BlockedSince != 0 {
		c.BlockedTotal += now - c.blocked
		c.BlockedSince, c.changed = 0, true
	}
}

// slow counts a write that took long, if that time is not counted anyway.
func (c *counters) slow(took int64) {
	if c.BlockedSince == 0 {
		c.BlockedTotal += took
		c.changed = true
	}
}

func (c *counters) drops(lines, bytes int) {
	c.DroppedLines += int64(lines)
	c.DroppedBytes += int64(bytes)
	c.changed = c.changed || bytes > 0
}

// publish writes the counters if they have changed; next is when it wants to be called again.
func (c *counters) publish(folder string, now int64, last bool) (next int64) {
	if !c.changed {
		return never
	}
	if now < c.due && !last {
		return c.due
	}
	t := newText(CountersName)
	t.num("blocked-since", c.BlockedSince)
	t.num("blocked-total-ns", c.BlockedTotal)
	t.num("dropped-lines", c.DroppedLines)
	t.num("dropped-bytes", c.DroppedBytes)
	t.str("log-error", oneLine(c.LogError))
	_ = publish(folder, CountersName, t.b.String()) // with no room in RUN either, they come later
	c.changed, c.due = false, now+second
	return never
}

func oneLine(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] < ' ' {
			b[i] = ' '
		}
	}
	return string(b)
}
