package bundled

import (
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// mountWords is what the options of a mount mean, mount(8) and the OCI runtime specification 1.3
// (config.md, "Linux mount options").
type mountWords struct {
	bind, below      bool     // a bind mount; with what is mounted below
	set, clear       []string // attributes of the mount itself
	setAll, clearAll []string // and of those below it (mount_setattr(2), Linux 5.12)
	propagation      string   // "slave"; empty: not said
	propagationAll   bool
	idmap, idmapAll  bool     // owners are shifted; of what is mounted below, too
	remount          bool     // it changes a mount that is there
	copyUp           bool     // a tmpfs begins with what the root has there
	data             []string // what is the file system's own
}

// readOptions reads options in their order: of those that contradict one another the last counts.
func readOptions(options []string) (w mountWords, err error) {
	for _, o := range options {
		if !w.read(o) {
			return w, errs.Newf(errs.Unsupported, "read mount options", o, "no such option here").
				WithHint("leave it out of the mount's options in config.json")
		}
	}
	return w, nil
}

func (w *mountWords) read(o string) bool {
	switch o {
	case "defaults", "loud", "silent":
	case "bind", "rbind":
		w.bind, w.below = true, w.below || o == "rbind"
	case "private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable":
		w.propagation, w.propagationAll = strings.CutPrefix(o, "r")
	case "copy-symlink", "src-nofollow", "dest-nofollow":
		return false
	case "idmap", "ridmap":
		w.idmap, w.idmapAll = true, o == "ridmap"
	case "remount":
		w.remount = true
	case "tmpcopyup":
		w.copyUp = true
	case "iversion", "noiversion": // who counts versions does it unasked, and no file system can be told by fsconfig(2)
	case "sync", "dirsync", "lazytime", "mand":
		w.data = append(w.data, o)
	case "async", "nolazytime", "nomand":
		off := strings.TrimPrefix(strings.TrimPrefix(o, "a"), "no")
		w.data = slices.DeleteFunc(w.data, func(d string) bool { return d == off })
	default:
		w.attribute(o)
	}
	return true
}

// attribute reads an attribute, its opposite, or either for all mounts below; anything else is the
// file system's own.
func (w *mountWords) attribute(o string) {
	name, on, ok := attributeWord(o)
	set, clear := &w.set, &w.clear
	if !ok && len(o) > 1 && o[0] == 'r' {
		name, on, ok = attributeWord(o[1:])
		set, clear = &w.setAll, &w.clearAll
	}
	if !ok {
		w.data = append(w.data, o)
		return
	}
	drop := func(d string) bool { return d == name || isTime(d) && isTime(name) }
	*set, *clear = slices.DeleteFunc(*set, drop), slices.DeleteFunc(*clear, drop)
	if on {
		*set = append(*set, name)
	} else {
		*clear = append(*clear, name)
	}
}

// isTime tells the attributes of which a mount has one at a time.
func isTime(name string) bool {
	return name == "noatime" || name == "relatime" || name == "strictatime"
}

// attributeWord is the attribute of an option, by the name of the option that sets it.
func attributeWord(o string) (name string, on, ok bool) {
	switch o {
	case "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow":
		return o, true, true
	case "rw":
		return "ro", false, true
	case "suid", "dev", "exec", "diratime", "symfollow":
		return "no" + o, false, true
	case "atime":
		return "noatime", false, true
	case "norelatime", "nostrictatime":
		return o[2:], false, true
	}
	return "", false, false
}
