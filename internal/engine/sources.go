package engine

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// findSources asks the host about what the container mounts.
func (d *draft) findSources(dry bool) error {
	d.sources = make([]plan.Source, len(d.c.Mounts))
	for i := range d.c.Mounts {
		m := &d.c.Mounts[i]
		var err error
		switch m.Type {
		case spec.Bind:
			d.sources[i], err = bindSource(m, dry)
		case spec.Volume:
			d.sources[i], err = d.volumeSource(m, dry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func bindSource(m *spec.Mount, dry bool) (plan.Source, error) {
	there, file, err := exists(m.Source)
	if err != nil {
		return plan.Source{}, errs.Wrap("find mount source", m.Source, err)
	}
	if !there && m.Create {
		if !dry {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return plan.Source{}, errs.Wrap("make mount source", m.Source, err)
			}
		}
		return plan.Source{Path: m.Source}, nil
	}
	if !there {
		return plan.Source{}, errs.Newf(errs.NotFound, "find mount source", m.Source, "no such file or directory").
			WithHint("create it first, or use -v, which makes a missing directory")
	}
	return plan.Source{Path: m.Source, File: file}, nil
}

// volumeSource finds or makes a volume: volumes/NAME/_data below the root, closed to the
// host's users by the mode of volumes/.
func (d *draft) volumeSource(m *spec.Mount, dry bool) (plan.Source, error) {
	if m.Source == "" {
		m.Source = string(container.NewID())
		d.anonymous = append(d.anonymous, m.Source)
	}
	folder := filepath.Join(d.e.cfg.Root, "volumes")
	data := filepath.Join(folder, m.Source, "_data")
	if dry {
		return plan.Source{Path: data}, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return plan.Source{}, errs.Wrap("make volume", m.Source, err)
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return plan.Source{}, errs.Wrap("make volume", m.Source, err)
	}
	return plan.Source{Path: data}, nil
}

func removeVolumes(root string, names []string) {
	for _, n := range names {
		_ = os.RemoveAll(filepath.Join(root, "volumes", n))
	}
}

// sizeWords writes bytes as people say them: "64 MiB".
func sizeWords(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return countWords(n) + " " + units[i]
}

func countWords(n int64) string { return strconv.FormatInt(n, 10) }
