package engine

import (
	"context"
	"maps"
	"time"

	"github.com/cortenhq/corten/internal/events"
)

// What faces see of events.
type (
	Event       = events.Event
	EventFilter = events.Filter
)

// ParseEventFilter reads what people write after --filter.
func ParseEventFilter(list []string) (EventFilter, error) { return events.ParseFilter(list) }

// EventsRequest says which events are wanted.
type EventsRequest struct {
	Since, Until time.Time // zero: no limit
	Filter       EventFilter
}

// Events calls each with the events that there are and with those that come, until the
// request's end. Without a beginning and an end it is only those that come.
func (e *Engine) Events(ctx context.Context, req EventsRequest, each func(Event) error) error {
	q := events.Query{Since: req.Since, Until: req.Until, Match: req.Filter.Match}
	if !req.Until.IsZero() && !req.Until.After(time.Now()) {
		return events.Read(e.cfg.Root, q, each)
	}
	return events.Follow(ctx, e.cfg.Root, q, each)
}

// tellImage writes down that something happened to an image, by its id or name. As with
// containers, what is done is done if that cannot be written.
func (e *Engine) tellImage(action, id, name string, labels map[string]string) {
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	attributes["name"] = name
	_ = events.Append(e.cfg.Root, events.Event{Type: events.TypeImage, Action: action, ID: id, Attributes: attributes})
}

// tellRemoved is tellImage for a removal. With its last name the image itself goes.
func (e *Engine) tellRemoved(r Removed) {
	for _, name := range r.Untagged {
		id := name
		if len(r.Deleted) > 0 {
			id = string(r.Deleted[0])
		}
		e.tellImage("untag", id, name, nil)
	}
	for _, id := range r.Deleted {
		e.tellImage("delete", string(id), string(id), nil)
	}
}
