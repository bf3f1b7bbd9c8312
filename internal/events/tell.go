package events

import (
	"maps"

	"github.com/cortenhq/corten/internal/spec"
)

// Tell writes down that something happened to a container. What has been done is done: an
// event that cannot be written (a full disk) is no reason to say otherwise.
func Tell(root string, c *spec.Container, action string, more map[string]string) {
	attributes := map[string]string{"image": c.Image.Name, "name": c.Name}
	maps.Copy(attributes, c.Labels)
	maps.Copy(attributes, more)
	_ = Append(root, Event{Type: TypeContainer, Action: action, ID: string(c.ID), Attributes: attributes})
}
