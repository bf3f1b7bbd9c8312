package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
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

// volumeSource finds or makes a volume. A new one is filled from the image while the
// container is started, unless the user says no.
func (d *draft) volumeSource(m *spec.Mount, dry bool) (plan.Source, error) {
	if m.Source == "" {
		m.Source, m.Anonymous = string(container.NewID()), true
	}
	if dry {
		data := filepath.Join(volume.Dir(d.e.cfg.Root, m.Source), "_data")
		there, _, err := exists(data)
		return plan.Source{Path: data, Seed: !there && !m.NoCopy && !d.c.Image.Platform}, err
	}
	v, err := volume.Open(d.e.cfg.Root, m.Source)
	if err != nil {
		return plan.Source{}, err
	}
	if v.New() {
		d.seeding = append(d.seeding, v)
	}
	return plan.Source{Path: v.Data(), Seed: v.New() && !m.NoCopy && !d.c.Image.Platform}, nil
}

// settleVolumes records that new volumes have their first content, or, if the start did
// not get that far, leaves them to their next user.
func (d *draft) settleVolumes(filled bool) error {
	var all []error
	for _, v := range d.seeding {
		if filled {
			all = append(all, v.Filled())
		} else {
			all = append(all, v.Close())
		}
	}
	d.seeding = nil
	return errors.Join(all...)
}

func removeVolumes(root string, names []string) error {
	var all []error
	for _, n := range names {
		all = append(all, volume.Remove(root, n))
	}
	return errors.Join(all...)
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
