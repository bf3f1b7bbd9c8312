package engine

import (
	"errors"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// Volume is what faces see of a volume.
type Volume = volume.Info

// CreateVolume makes a volume, if there is none of that name, and returns its name. An empty
// one is made up.
func (e *Engine) CreateVolume(name string, labels map[string]string, size int64) (string, error) {
	if name == "" {
		name = volume.NewName()
	}
	made, err := volume.Create(e.cfg.Root, name, labels, size)
	if made {
		e.tellVolume(name, "create")
	}
	return name, err
}

func (e *Engine) tellVolume(name, action string) {
	_ = events.Append(e.cfg.Root, events.Event{Type: events.TypeVolume, Action: action, ID: name, Attributes: map[string]string{"driver": "local"}})
}

// Volumes lists volumes by name, and says which of them are used by containers. With an error
// the list is of those that could be read.
func (e *Engine) Volumes() (list []Volume, used map[string][]string, err error) {
	swept := e.sweep()
	list, err = volume.List(e.cfg.Root)
	used, uerr := e.volumeUsers()
	return list, used, errors.Join(swept, err, uerr)
}

// Volume finds a volume.
func (e *Engine) Volume(name string) (Volume, error) { return volume.Find(e.cfg.Root, name) }

// VolumeSize is how many bytes the files of a volume have.
func (e *Engine) VolumeSize(name string) int64 { return volume.Size(e.cfg.Root, name) }

// volumeUsers is the names of the containers that mount each volume. It is whole or an error:
// what is removed depends on it.
func (e *Engine) volumeUsers() (map[string][]string, error) {
	list, err := container.Views(e.dirs(), ContainerFilter{All: true})
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, c := range list {
		for _, m := range c.Spec.Mounts {
			if m.Type == spec.Volume {
				used[m.Source] = append(used[m.Source], c.Spec.Name)
			}
		}
	}
	return used, nil
}

// RemoveVolume removes a volume that no container uses.
func (e *Engine) RemoveVolume(name string) error {
	err := volume.Delete(e.cfg.Root, name, func() error {
		used, err := e.volumeUsers()
		if by := used[name]; err == nil && len(by) > 0 {
			return errs.Newf(errs.Busy, "remove volume", name, "container "+by[0]+" uses it").WithHint("remove the container first: corten rm " + by[0])
		}
		return err
	})
	if err == nil {
		e.tellVolume(name, "destroy")
	}
	return err
}
