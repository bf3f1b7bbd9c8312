package connect

import (
	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/wiring"
)

// connected is for when who started us has been told so.
func (w *work) connected() {
	w.known = true
	w.tell("connect", w.doc)
}

// tell writes down that a container was connected to its networks, or disconnected from them, as Docker has it. Nobody
// waits for that.
func (w *work) tell(action string, d *wiring.Document) {
	for _, l := range d.Links {
		e := events.Event{Type: events.TypeNetwork, Action: action, ID: l.Network,
			Attributes: map[string]string{"name": l.Network, "type": string(l.Driver), "container": string(d.ID)}}
		if l.Plugins != nil {
			e.ID = cni.IDOf(l.Network)
		} else if n, err := network.Find(w.dirs, l.Network); err == nil {
			e.ID = n.ID
		}
		_ = events.Append(w.dirs.Root, e)
	}
}
