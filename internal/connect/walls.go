package connect

import (
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/wire/walls"
	"github.com/cortenhq/corten/internal/wiring"
)

// look prints whose rules stop what the networks' bridges send and get.
func (w *work) look() error {
	all, err := network.List(w.dirs)
	if err != nil {
		return err
	}
	var bridges []string
	for _, n := range all {
		if n.Driver == wiring.Bridge && !n.Internal {
			bridges = append(bridges, n.Bridge)
		}
	}
	if len(bridges) == 0 {
		bridges = []string{network.DefaultBridge(w.dirs)}
	}
	found, err := around(bridges)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	return errs.Wrap("look for", "others' rules", err)
}

// around is the walls around bridges.
func around(bridges []string) (network.Walls, error) {
	var all network.Walls
	for _, b := range bridges {
		found, err := walls.Look(b)
		if err != nil {
			return all, err
		}
		who, open := walls.Words(found, b)
		for _, name := range who {
			if !slices.Contains(all.Who, name) {
				all.Who = append(all.Who, name)
			}
		}
		all.Open = append(all.Open, open...)
	}
	return all, nil
}

// warn leaves word for who started the container if others' rules stop what it is to send and get. This is
// looked for when the tables are made, and not at each start. A user is told once of the same.
func (w *work) warn() {
	var bridges []string
	for _, l := range w.doc.Links {
		if l.Switch != nil && !l.Switch.Internal {
			bridges = append(bridges, l.Switch.Name)
		}
	}
	found, err := around(bridges)
	if err != nil || len(found.Who) == 0 {
		return // without warnings there are networks all the same
	}
	text := found.String()
	if told, _ := os.ReadFile(w.file("told")); strings.TrimSpace(string(told)) == text {
		return
	}
	_ = os.WriteFile(w.file("warning"), []byte(text+"\n"), 0o600)
}
