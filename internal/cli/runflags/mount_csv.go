package runflags

import (
	"encoding/csv"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// parseMount reads the value of --mount: KEY=VALUE pairs separated by commas, with the
// quoting of CSV for values that have commas in them.
func parseMount(s string) (spec.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return spec.Mount{}, values.Bad("mount", s, "not a list of KEY=VALUE", `put quotes around a whole pair that has a comma in it: "source=/a,b"`)
	}
	// The meaning of a key depends on the type, wherever that is written.
	m := spec.Mount{Type: spec.Volume}
	for _, f := range fields {
		if key, value, _ := strings.Cut(f, "="); strings.EqualFold(key, "type") {
			if m.Type, err = mountType(value); err != nil {
				return m, inFlag("mount", s, err)
			}
		}
	}
	m.Recursive = m.Type == spec.Bind
	p := pairs{&m, "", ""}
	for _, f := range fields {
		if err := p.apply(f); err != nil {
			return m, inFlag("mount", s, err)
		}
	}
	if err := p.check(); err != nil {
		return m, inFlag("mount", s, err)
	}
	return m, nil
}

func mountType(s string) (spec.MountType, error) {
	switch t := spec.MountType(strings.ToLower(s)); t {
	case spec.Bind, spec.Volume, spec.Tmpfs:
		return t, nil
	case "image", "cluster", "npipe", "glob", "ramfs", "devpts":
		return "", refuseOption(errs.Unsupported, "type="+s, "not built yet", "the types are bind, volume and tmpfs")
	}
	return "", refuseOption(errs.Invalid, "type="+s, "no such type", "the types are bind, volume and tmpfs")
}

// pairs collects the options of --mount.
type pairs struct {
	m         *spec.Mount
	propagate string // the propagation as written
	recursive string // the value of bind-recursive
}

func (p *pairs) apply(field string) error {
	key, value, given := strings.Cut(field, "=")
	if strings.TrimSpace(key) != key || strings.TrimSpace(value) != value {
		return refuseOption(errs.Invalid, field, "it has a blank in it", "write type=bind,source=PATH,target=PATH without blanks")
	}
	key = strings.ToLower(key)
	if flag := p.flagOf(key); flag != nil {
		on, ok := values.Bool(value, given)
		if !ok {
			return refuseOption(errs.Invalid, field, "neither true nor false", "write "+key+" or "+key+"=false")
		}
		*flag = on
		return nil
	}
	if prefix, _, _ := strings.Cut(key, "-"); prefix != key && prefix != string(p.m.Type) && isMountType(prefix) {
		return refuseOption(errs.Invalid, key, "only for type="+prefix, "this mount is of type="+string(p.m.Type))
	}
	switch key {
	case "volume-driver", "volume-opt", "volume-label", "volume-subpath":
		return refuseOption(errs.Unsupported, key, "not built yet", "a volume is a folder of Corten's own; use type=bind for one elsewhere")
	case "bind-nonrecursive":
		return refuseOption(errs.Unsupported, key, "Docker gave it up", "write bind-recursive=disabled")
	case "image-subpath", "chown", "u", "idmap":
		return refuseOption(errs.Unsupported, key, "not built yet", "leave it out")
	}
	if value == "" {
		return refuseOption(errs.Invalid, field, "no value", "write "+key+"=VALUE")
	}
	return p.applyValue(key, value)
}

func isMountType(s string) bool { return s == "bind" || s == "volume" || s == "tmpfs" || s == "image" }

// flagOf is the field of an option that is either there or not; nil if the key is not such
// an option of this type of mount.
func (p *pairs) flagOf(key string) *bool {
	bind, tmpfs := p.m.Type == spec.Bind, p.m.Type == spec.Tmpfs
	switch {
	case key == "readonly" || key == "ro":
		return &p.m.ReadOnly
	case key == "noexec" && !tmpfs:
		return &p.m.NoExec
	case key == "exec" && tmpfs:
		return &p.m.Exec
	case key == "nosuid" && !tmpfs:
		return &p.m.NoSuid
	case key == "nodev" && !tmpfs:
		return &p.m.NoDev
	case key == "noidmap" && bind:
		return &p.m.NoIDMap
	case key == "bind-create-src" && bind:
		return &p.m.Create
	case key == "volume-nocopy" && p.m.Type == spec.Volume:
		return &p.m.NoCopy
	}
	return nil
}

func (p *pairs) applyValue(key, value string) error {
	m := p.m
	switch key {
	case "type":
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "bind-propagation":
		l := optionList{m, map[string]string{}}
		if p.propagate = strings.ToLower(value); !isPropagation(p.propagate) || l.applyBind(p.propagate) != nil {
			return refuseOption(errs.Invalid, key+"="+value, "no such propagation", "write private, slave, shared, rprivate, rslave or rshared")
		}
	case "bind-recursive":
		return p.recursion(value)
	case "relabel":
		if m.Relabel = spec.Relabel(value); m.Type == spec.Tmpfs || m.Relabel != spec.RelabelShared && m.Relabel != spec.RelabelPrivate {
			return refuseOption(errs.Invalid, key+"="+value, "no such label", "write relabel=shared or relabel=private, for a folder or a volume")
		}
	case "tmpfs-size":
		return tmpfsSize(m, key, value)
	case "tmpfs-mode":
		return tmpfsMode(m, key, value)
	case "consistency":
		// Means something on macOS only, to Docker too.
	default:
		return refuseOption(errs.Invalid, key, "no such option",
			"the options are type, source, target, readonly, bind-propagation, bind-recursive, relabel, tmpfs-size, tmpfs-mode, volume-nocopy")
	}
	return nil
}

func isPropagation(s string) bool {
	switch s {
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		return true
	}
	return false
}

// recursion is bind-recursive. Read-only binds are so all the way down here (Linux 5.12),
// which is what readonly asks for.
func (p *pairs) recursion(value string) error {
	const key = "bind-recursive="
	p.recursive = value
	switch value {
	case "enabled", "readonly":
		return nil
	case "disabled":
		p.m.Recursive = false
		return nil
	case "writable":
		return refuseOption(errs.Unsupported, key+value, "not built yet", "mount what has to be writable by a --mount of its own")
	}
	return refuseOption(errs.Invalid, key+value, "no such choice", "write enabled, disabled or readonly")
}

// check looks at the whole once all pairs are known.
func (p *pairs) check() error {
	m := p.m
	if m.Target == "" {
		return refuseOption(errs.Invalid, "target", "missing", "say where in the container: target=/PATH")
	}
	if p.recursive == "readonly" && !m.ReadOnly {
		return refuseOption(errs.Invalid, "bind-recursive=readonly", "the mount is not readonly", "add readonly")
	}
	switch {
	case m.Type == spec.Tmpfs && m.Source != "":
		return refuseOption(errs.Invalid, "source", "a tmpfs has none", "leave source out")
	case m.Type == spec.Volume && m.Source != "" && !values.ValidName(m.Source):
		return refuseOption(errs.Invalid, "source="+m.Source, "not a volume's name", "to mount a folder of the host write type=bind")
	case m.Type == spec.Bind && m.Source == "":
		return refuseOption(errs.Invalid, "source", "missing", "say what of the host: source=/PATH")
	case m.Type == spec.Bind && strings.HasPrefix(m.Source, "."):
		abs, err := filepath.Abs(m.Source)
		if err != nil {
			return err
		}
		m.Source = abs
	case m.Type == spec.Bind && !filepath.IsAbs(m.Source):
		return refuseOption(errs.Invalid, "source="+m.Source, "not an absolute path", "begin it with / or ./")
	}
	return nil
}
