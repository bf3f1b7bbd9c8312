package image

import (
	"path/filepath"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/store"
)

// Hold makes an image and its tree stay as long as a container does. The container's directory
// exists and is removed before Release; if a power cut takes the hold away it takes a
// container as young as that too.
func (l *Library) Hold(x Image, t Tree, c *spec.Container) error {
	return l.store.Hold(store.Hold{
		ID:       string(c.ID),
		Owner:    "container " + c.Name,
		Dir:      filepath.Join("containers", string(c.ID)),
		Manifest: x.Manifest,
		Tree:     t.ID,
	}, disk.Volatile)
}

// Release ends the hold of a container that is no more, in the store of the state folder root.
// Where nobody comes to do this, the next collection does.
func Release(root string, c *spec.Container) error {
	if c.Image.Platform {
		return nil
	}
	s, err := store.Open(root)
	if err != nil {
		return err
	}
	return s.Release(string(c.ID))
}
