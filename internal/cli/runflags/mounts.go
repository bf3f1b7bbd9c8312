package runflags

import (
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// mounts is what the container sees besides its image.
type mounts struct {
	volumes, mounts, tmpfs, storage []string
	readOnly                        bool
	shmSize                         string
}

func (f *mounts) bind(g group) {
	g.list(&f.volumes, "volume", "v", "Mount `SOURCE:TARGET[:OPTIONS]`; the source is a path or a volume's name (repeatable)")
	g.list(&f.mounts, "mount", "", "Mount `KEY=VALUE,...`: type=bind|volume|tmpfs, source, target, readonly ... (repeatable)")
	g.list(&f.tmpfs, "tmpfs", "", "Mount memory at `TARGET[:OPTIONS]`, such as size=64m,mode=700,exec (repeatable)")
	g.yesNo(&f.readOnly, "read-only", "", false, "Make the root file system read-only")
	g.text(&f.shmSize, "shm-size", "", "`SIZE` of /dev/shm (default 64m)")
	g.list(&f.storage, "storage-opt", "", "Limit what is written to the root: size=`SIZE`, at least 1m; takes ext4 or XFS with project quotas")
}

func (f *mounts) fill(c *spec.Container) error {
	c.Root.ReadOnly = f.readOnly
	var err error
	if c.Root.Size, err = values.DiskLimit("storage-opt", f.storage); err != nil {
		return err
	}
	if c.Root.ShmSize, err = values.Size("shm-size", f.shmSize); err != nil {
		return err
	}
	if f.shmSize != "" && c.Root.ShmSize == 0 {
		return values.Bad("shm-size", f.shmSize, "no room at all", "leave the flag out for 64 MiB")
	}
	for _, kind := range []struct {
		flag  string
		texts []string
		parse func(string) (spec.Mount, error)
	}{
		{"volume", f.volumes, parseVolume},
		{"mount", f.mounts, parseMount},
		{"tmpfs", f.tmpfs, parseTmpfs},
	} {
		for _, s := range kind.texts {
			m, err := kind.parse(s)
			if err != nil {
				return err
			}
			if c.Mounts, err = addMount(c.Mounts, m, kind.flag, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// addMount checks the target, which has to be the only mount there.
func addMount(list []spec.Mount, m spec.Mount, flag, text string) ([]spec.Mount, error) {
	if !strings.HasPrefix(m.Target, "/") {
		return nil, values.Bad(flag, text, "the target "+strconv.Quote(m.Target)+" is not an absolute path",
			"write it from the container's root: /"+m.Target)
	}
	m.Target = path.Clean(m.Target)
	if m.Target == "/" {
		return nil, values.Bad(flag, text, "the target is the container's root", "to use a folder as the root, import it as an image")
	}
	for _, o := range list {
		if o.Target == m.Target {
			return nil, values.Bad(flag, text, "another mount has the target "+m.Target, "give each its own target")
		}
	}
	return append(list, m), nil
}

// parseVolume reads [SOURCE:]TARGET[:OPTIONS]. A source that begins with "/" or "." is a
// path, any other the name of a volume; without a source a volume is made for this
// container alone.
func parseVolume(s string) (spec.Mount, error) {
	parts := strings.Split(s, ":")
	for _, p := range parts {
		if p == "" {
			return spec.Mount{}, values.Bad("volume", s, "a part is empty", "write SOURCE:TARGET or SOURCE:TARGET:OPTIONS")
		}
	}
	var m spec.Mount
	switch len(parts) {
	case 1:
		return spec.Mount{Type: spec.Volume, Target: parts[0]}, nil
	case 2, 3:
		m.Target = parts[1]
	default:
		return m, values.Bad("volume", s, "too many colons", "for a path with a colon in it use --mount type=bind,source=PATH,target=PATH")
	}
	if err := volumeSource(&m, s, parts[0]); err != nil {
		return m, err
	}
	if len(parts) < 3 {
		return m, nil
	}
	l := optionList{&m, map[string]string{}}
	for o := range strings.SplitSeq(parts[2], ",") {
		if err := l.apply(o); err != nil {
			return m, inFlag("volume", s, err)
		}
	}
	return m, nil
}

func volumeSource(m *spec.Mount, text, source string) error {
	if source[0] == '/' || source[0] == '.' {
		abs, err := filepath.Abs(source)
		if err != nil {
			return errs.Wrap("--volume", strconv.Quote(text), err)
		}
		m.Type, m.Source, m.Recursive, m.Create = spec.Bind, abs, true, true
		return nil
	}
	m.Type, m.Source = spec.Volume, source
	if source[0] == '~' {
		return values.Bad("volume", text, "the shell left the ~ in", "write it without quotes, or write the path in full")
	}
	if !values.ValidName(source) {
		return values.Bad("volume", text, strconv.Quote(source)+" is not a volume's name",
			"to mount a folder of the host write its absolute path, or begin with ./")
	}
	return nil
}
