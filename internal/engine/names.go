package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
)

// ContainerStatus is what a container is doing, by state.json.
type ContainerStatus = container.Status

// Values of ContainerStatus. One that is paused counts as running.
const (
	ContainerCreated    = container.Created
	ContainerRunning    = container.Running
	ContainerRestarting = container.Restarting
	ContainerExited     = container.Exited
)

// ContainerNames is the names of the containers that begin so and are in one of the states,
// or in any if none is given. It is for completion: what cannot be read is left out.
func (e *Engine) ContainerNames(begun string, states ...ContainerStatus) ([]string, error) {
	dir := filepath.Join(e.cfg.Root, "names")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("list names of containers in", dir, err)
	}
	var names []string
	for _, d := range entries {
		if !strings.HasPrefix(d.Name(), begun) {
			continue
		}
		id, err := container.Find(e.dirs(), d.Name())
		if err != nil {
			continue
		}
		s, err := container.Load(e.dirs(), id)
		if err == nil && (len(states) == 0 || slices.Contains(states, s.State.Status)) {
			names = append(names, d.Name())
		}
	}
	return names, nil
}
