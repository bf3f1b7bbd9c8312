package network

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
)

// Walls are rules of others that stop what containers send to the world and get from there.
type Walls struct {
	Who  []string `json:"who"`  // "the rules of Docker"
	Open []string `json:"open"` // commands that let it through
}

// Stopped says who does.
func (w Walls) Stopped() string { return "stopped by " + strings.Join(w.Who, " and ") }

// String is a warning.
func (w Walls) String() string {
	return "what containers send to the world and get from there is " + w.Stopped() + "; let it through: " + strings.Join(w.Open, "; ")
}

// LookForWalls has corten-net look for them.
func LookForWalls(ctx context.Context, d Dirs) (w Walls, err error) {
	program, err := programs.Find("corten-net")
	if err != nil {
		return w, err
	}
	out, err := exec.CommandContext(ctx, program, "look", d.Root, d.Run).Output()
	if err == nil {
		err = json.Unmarshal(out, &w)
	}
	return w, errs.Wrap("look for", "others' rules", err)
}

// Warning is what corten-net has found to warn of at a start; empty: nothing, or it was returned before.
func Warning(d Dirs) string {
	file := filepath.Join(d.Run, "net/warning")
	b, err := os.ReadFile(file)
	if err != nil || os.Rename(file, filepath.Join(d.Run, "net/told")) != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
