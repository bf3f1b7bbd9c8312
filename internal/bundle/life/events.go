package life

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/cgroup/counts"
	"github.com/cortenhq/corten/internal/errs"
)

// Event is what happens to a container that runs, in the form in which runc prints it.
type Event struct {
	Type string        `json:"type"` // stats or oom
	ID   string        `json:"id"`
	Data *counts.Stats `json:"data,omitempty"`
}

// Stats reads what the kernel counts of a container.
func Stats(root, id string) (Event, error) {
	s, err := counted(root, id)
	if err != nil {
		return Event{}, err
	}
	return statsOf(s), nil
}

func statsOf(s *record.State) Event {
	stats := counts.Read(s.Groups)
	return Event{Type: "stats", ID: s.ID, Data: &stats}
}

// counted finds a container that has not ended.
func counted(root, id string) (*record.State, error) {
	_, s, status, err := Find(root, id)
	if err == nil && (status == record.Stopped || status == record.Creating) {
		err = not("look at", id, status, "only one that is created or runs uses anything")
	}
	return s, err
}

// Events tells what a container uses at intervals, and each time its memory runs out, until it ends.
func Events(ctx context.Context, root, id string, interval time.Duration, tell func(Event) error) error {
	s, err := counted(root, id)
	if err != nil {
		return err
	}
	process, err := s.Open()
	if err != nil {
		return errs.Wrap("look at container", id, err)
	}
	defer process.Close()
	oom, err := counts.WatchOOM(s.Groups)
	if err != nil {
		return err
	}
	waits := []unix.PollFd{{Fd: int32(process.Fd()), Events: unix.POLLIN}}
	if oom != nil {
		defer oom.Close()
		waits = append(waits, oom.Poll())
	}
	for next := time.Now().Add(interval); ctx.Err() == nil; {
		n, err := unix.Poll(waits, int(max(0, time.Until(next)+time.Millisecond-1)/time.Millisecond))
		switch {
		case err != nil && err != unix.EINTR:
			return errs.Wrap("wait for container", id, err)
		case n == 0 && !time.Now().Before(next):
			next = next.Add(interval)
			if err := tell(statsOf(s)); err != nil {
				return err
			}
		}
		if oom != nil && waits[1].Revents != 0 {
			for range oom.Happened() {
				if err := tell(Event{Type: "oom", ID: id}); err != nil {
					return err
				}
			}
		}
		if waits[0].Revents != 0 {
			return nil
		}
		for i := range waits {
			waits[i].Revents = 0
		}
	}
	return nil
}
