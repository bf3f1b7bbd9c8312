package network

import (
	"github.com/cortenhq/corten/internal/ports"
	"github.com/cortenhq/corten/internal/spec"
)

// Held is ports of the host that nobody else can have.
type Held = ports.Held

// Hold takes the host's ports that a container publishes; Claim then leads them to it.
func Hold(publish []spec.Port, expose []spec.Service, all bool) (*Held, error) {
	return ports.Hold(publish, expose, all)
}
