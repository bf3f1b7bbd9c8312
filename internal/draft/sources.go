package draft

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/volume"
)

// findSources asks the host about what the container mounts.
func (d *Draft) findSources(ctx context.Context, dry bool) error {
	if !dry {
		if err := d.openVolumes(ctx); err != nil {
			return err
		}
	}
	d.sources = make([]plan.Source, len(d.Spec.Mounts))
	for i := range d.Spec.Mounts {
		m := &d.Spec.Mounts[i]
		var err error
		switch m.Type {
		case spec.Bind:
			d.sources[i], err = bindSource(m, dry)
		case spec.Volume:
			d.sources[i], err = d.volumeSource(m)
		}
		if err != nil {
			return err
		}
	}
	if dry {
		return nil
	}
	return d.relabelSources()
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

// nameVolumes gives names to the volumes that the user gave none.
func (d *Draft) nameVolumes() {
	for i := range d.Spec.Mounts {
		if m := &d.Spec.Mounts[i]; m.Type == spec.Volume && m.Source == "" {
			m.Source, m.Anonymous = string(container.NewID()), true
		}
	}
}

// openVolumes finds or makes each volume once, in the order of their names: a command that
// waits for another one to fill a volume must not have what that one waits for.
func (d *Draft) openVolumes(ctx context.Context) error {
	var names []string
	for _, m := range d.Spec.Mounts {
		if m.Type == spec.Volume {
			names = append(names, m.Source)
		}
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		v, err := volume.Open(ctx, d.Site.Dirs.Root, n, string(d.Spec.ID))
		if err != nil {
			return err
		}
		d.volumes = append(d.volumes, v)
	}
	return nil
}

// volumeSource is a volume as the source of a mount. A new one is filled from the image
// while the container is started, unless the user says no; one that is mounted twice from
// what is at the first place.
func (d *Draft) volumeSource(m *spec.Mount) (plan.Source, error) {
	path := filepath.Join(volume.Dir(d.Site.Dirs.Root, m.Source), "_data")
	isNew := false
	if i := slices.IndexFunc(d.volumes, func(v *volume.Volume) bool { return v.Name == m.Source }); i >= 0 {
		isNew = d.volumes[i].New()
	} else { // dry
		there, _, err := exists(path)
		if err != nil {
			return plan.Source{}, errs.Wrap("find volume", m.Source, err)
		}
		isNew = !there
	}
	seeded := slices.ContainsFunc(d.sources, func(s plan.Source) bool { return s.Path == path && s.Seed })
	return plan.Source{Path: path, Seed: isNew && !seeded && !m.NoCopy && !d.Spec.Image.Platform}, nil
}

// settleVolumes records that new volumes have their first content if they begin empty. The
// others are settled when they are filled, which is before the container sees them.
func (d *Draft) settleVolumes() error {
	for _, v := range d.volumes {
		if slices.ContainsFunc(d.sources, func(s plan.Source) bool { return s.Path == v.Data() && s.Seed }) {
			continue
		}
		if err := v.Filled(false); err != nil {
			return err
		}
	}
	return nil
}

// seeded is told by the launch that a volume has its first content.
func (d *Draft) seeded(name string, copied bool) error {
	for _, v := range d.volumes {
		if v.Name == name {
			return v.Filled(copied)
		}
	}
	return nil
}

// exists reports whether a path is there, and whether it is something else than a
// directory.
func exists(path string) (there, file bool, err error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); err {
	case nil:
		return true, st.Mode&unix.S_IFMT != unix.S_IFDIR, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, false, nil
	default:
		return false, false, err
	}
}
