package runflags

import (
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// optionList collects the comma-separated options of -v and --tmpfs on a mount.
type optionList struct {
	m    *spec.Mount
	seen map[string]string // what was chosen, by what it is about: "access": "ro"
}

// apply reads one option of -v.
func (l optionList) apply(o string) error {
	m := l.m
	switch o {
	case "ro", "rw":
		m.ReadOnly = o == "ro"
		return l.choose("access", o)
	case "exec", "noexec":
		m.NoExec = o == "noexec"
		return l.choose("exec", o)
	case "suid", "nosuid":
		m.NoSuid = o == "nosuid"
		return l.choose("suid", o)
	case "nodev":
		m.NoDev = true
		return l.choose("dev", o)
	case "z", "Z":
		if m.Relabel = spec.RelabelShared; o == "Z" {
			m.Relabel = spec.RelabelPrivate
		}
		return l.choose("label", o)
	case "consistent", "cached", "delegated":
		return nil // a choice between machines on macOS; on Linux they mean the same to Docker too
	case "U":
		return refuseOption(errs.Unsupported, o, "not needed here", "owners are shifted by the mount itself, and nothing on disk is changed")
	case "O", "dev", "upperdir", "workdir", "volume-nocopy":
		return refuseOption(errs.Unsupported, o, "not built yet", "leave it out")
	}
	if m.Type == spec.Bind {
		return l.applyBind(o)
	}
	if o == "nocopy" || o == "copy" {
		m.NoCopy = o == "nocopy"
		return l.choose("copy", o)
	}
	if isBindOption(o) {
		return refuseOption(errs.Invalid, o, "only for a bind mount", "a volume has no such option; begin the source with / or ./ to mount a folder")
	}
	return unknownOption(o)
}

func (l optionList) applyBind(o string) error {
	m := l.m
	switch o {
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		m.Propagation = o
		return l.choose("propagation", o)
	case "bind", "rbind":
		m.Recursive = o == "rbind"
		return l.choose("recursion", o)
	case "idmap", "noidmap":
		m.NoIDMap = o == "noidmap"
		return l.choose("idmap", o)
	case "copy", "nocopy":
		return refuseOption(errs.Invalid, o, "only for a volume", "a bind mount copies nothing in")
	}
	return unknownOption(o)
}

func isBindOption(o string) bool {
	return optionList{&spec.Mount{}, map[string]string{}}.applyBind(o) == nil
}

// choose refuses two options that contradict each other.
func (l optionList) choose(about, o string) error {
	if was := l.seen[about]; was != "" && was != o {
		return refuseOption(errs.Invalid, o, "contradicts "+was, "leave one of them out")
	}
	l.seen[about] = o
	return nil
}

func refuseOption(kind errs.Kind, option, why, hint string) error {
	return errs.Newf(kind, "option", option, why).WithHint(hint)
}

func unknownOption(o string) error {
	return refuseOption(errs.Invalid, o, "no such option", "the options are ro, rw, noexec, nosuid, nodev, [r]private, [r]slave, [r]shared, bind, rbind, noidmap, nocopy, z, Z")
}

// parseTmpfs reads TARGET[:OPTIONS].
func parseTmpfs(s string) (spec.Mount, error) {
	target, options, given := strings.Cut(s, ":")
	m := spec.Mount{Type: spec.Tmpfs, Target: target}
	if !given {
		return m, nil
	}
	l := optionList{&m, map[string]string{}}
	for o := range strings.SplitSeq(options, ",") {
		if err := l.applyTmpfs(o); err != nil {
			return m, inFlag("tmpfs", s, err)
		}
	}
	return m, nil
}

func (l optionList) applyTmpfs(o string) error {
	const hint = "the options are size=64m, mode=1777, ro, rw, exec, noexec, nosuid, nodev"
	m := l.m
	key, value, _ := strings.Cut(o, "=")
	switch key {
	case "size":
		return tmpfsSize(m, key, value)
	case "mode":
		return tmpfsMode(m, key, value)
	case "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol", "dev", "suid":
		return refuseOption(errs.Unsupported, o, "not built yet", hint)
	}
	switch o {
	case "ro", "rw":
		m.ReadOnly = o == "ro"
		return l.choose("access", o)
	case "exec", "noexec":
		m.Exec = o == "exec"
		return l.choose("exec", o)
	case "nosuid", "nodev":
		return nil // always so
	}
	return refuseOption(errs.Invalid, o, "no such option", hint)
}

func tmpfsSize(m *spec.Mount, key, value string) error {
	n, ok := spec.ParseSize(value)
	if !ok || n == 0 {
		return refuseOption(errs.Invalid, key+"="+value, "not a size", values.SizeHint)
	}
	m.Size = n
	return nil
}

func tmpfsMode(m *spec.Mount, key, value string) error {
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o7777 {
		return refuseOption(errs.Invalid, key+"="+value, "not a mode", "write an octal number: "+key+"=1777")
	}
	mode := uint32(n)
	m.Mode = &mode
	return nil
}

// inFlag says in which flag an option was wrong, but names the option only if it is not the
// whole value.
func inFlag(flag, text string, err error) error {
	if e, ok := err.(*errs.Error); ok && e.Object == text {
		e.Op, e.Object = "", ""
	}
	return errs.Wrap("--"+flag, strconv.Quote(text), err)
}
