package engine

import (
	"maps"
	"strconv"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/spec"
)

// tell writes down that something happened to a container. What has been done is done: an
// event that cannot be written (a full disk) is no reason to say otherwise.
func (e *Engine) tell(c *spec.Container, action string, more map[string]string) {
	attributes := map[string]string{"image": c.Image.Name, "name": c.Name}
	maps.Copy(attributes, c.Labels)
	maps.Copy(attributes, more)
	_ = events.Append(e.cfg.Root, events.Event{Type: events.TypeContainer, Action: action, ID: string(c.ID), Attributes: attributes})
}

// lastExit is how a container ended that has been removed since, by the events.
func (e *Engine) lastExit(id spec.ContainerID, begun time.Time) (int, error) {
	code, found := 0, false
	err := events.Read(e.cfg.Root, events.Query{Since: begun}, func(ev events.Event) error {
		if ev.ID == string(id) && ev.Action == "die" {
			n, err := strconv.Atoi(ev.Attributes["exitCode"])
			code, found = n, err == nil
		}
		return nil
	})
	if err == nil && !found {
		return 0, errs.Newf(errs.NotFound, "wait for container", id.Short(), "it was removed, and how it ended is not known any more")
	}
	return code, err
}
