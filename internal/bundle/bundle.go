// Package bundle reads OCI bundles: a directory with a root file system and config.json, which says how
// to run a container on it.
//
// Load translates config.json to what the rest of Corten understands, spec.Container, and refuses by
// name what it cannot honour. What is neither about the container nor about its processes, such as
// hooks, stays as it is.
package bundle

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Bundle is a container as its bundle describes it.
type Bundle struct {
	Dir         string // absolute
	Text        []byte // config.json
	Version     string // of the specification that it follows
	Spec        *spec.Container
	Groups      string // cgroupsPath
	Hooks       specs.Hooks
	Annotations map[string]string
	Warnings    []string // what it asks for and does not get
}

// config is config.json. What spec has in the same form is read as that.
type config struct {
	specs.Spec
	Linux *linux `json:"linux"`
	// Other platforms are refused, and so not read: to learn their types takes the decoder 0.25 ms.
	Windows json.RawMessage `json:"windows"`
	Solaris json.RawMessage `json:"solaris"`
	ZOS     json.RawMessage `json:"zos"`
	FreeBSD json.RawMessage `json:"freebsd"`
	VM      json.RawMessage `json:"vm"`
}

type linux struct {
	specs.Linux
	Resources *spec.Resources `json:"resources"`
	Seccomp   *spec.Seccomp   `json:"seccomp"`
	IntelRdt  *spec.IntelRdt  `json:"intelRdt"`
}

// mostConfig is bytes of a config.json.
const mostConfig = 16 << 20

// Load reads the bundle in a directory. held is the capabilities that this process has, a bit for
// each: others cannot be given.
func Load(dir string, held uint64) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, errs.Wrap("find bundle", dir, err)
	}
	file := filepath.Join(dir, "config.json")
	text, err := disk.ReadAtMost(file, mostConfig)
	if err != nil {
		e := errs.New(errs.KindOf(err), "read", file, err)
		if errs.Is(err, errs.NotFound) {
			e.Hint = "name the bundle's directory with --bundle; corten-oci spec writes a config.json"
		}
		return nil, e
	}
	b, err := Parse(dir, text, held)
	return b, errs.Wrap("read", file, err)
}

// Parse reads the config.json of the bundle in a directory.
func Parse(dir string, text []byte, held uint64) (*Bundle, error) {
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, unread(text, err)
	}
	if hasNUL(text) {
		return nil, errs.Newf(errs.Invalid, "", "", "a string has a NUL character in it").WithHint(`take \u0000 out`)
	}
	if c.Linux == nil {
		c.Linux = &linux{}
	}
	if err := refuse(&c); err != nil {
		return nil, err
	}
	t := &translator{dir: dir, held: held}
	t.container(&c)
	if t.err != nil {
		return nil, t.err
	}
	b := &Bundle{Dir: dir, Text: text, Version: c.Version, Spec: t.out, Groups: c.Linux.CgroupsPath, Annotations: c.Annotations, Warnings: t.warn}
	if c.Hooks != nil {
		b.Hooks = *c.Hooks
	}
	return b, nil
}

// Sources finds what the bind mounts of a container show, and looks at its root file system.
func Sources(c *spec.Container) ([]plan.Source, error) {
	var st unix.Stat_t
	err := unix.Stat(c.Root.Path, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "find the root file system", c.Root.Path, err).
			WithHint("root.path of config.json names its directory, from the bundle's on if it does not begin with /")
	}
	list := make([]plan.Source, len(c.Mounts))
	for i, m := range c.Mounts {
		if m.Type != spec.Bind {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(m.Source, &st); err != nil {
			return nil, errs.New(errs.KindOf(err), "find the source of the mount at "+m.Target, m.Source, err).
				WithHint("a bind mount shows what is there: make it first, or leave the mount out of config.json")
		}
		list[i] = plan.Source{Path: m.Source, File: st.Mode&unix.S_IFMT != unix.S_IFDIR}
	}
	return list, nil
}

// Home is the home directory that the container's own accounts give to a user, read from its root.
func Home(root, user string) string {
	id, err := plan.Accounts{Passwd: inRoot(root, "etc/passwd")}.Resolve(user, nil)
	if err != nil {
		return "/"
	}
	return id.Home
}

// inRoot reads a file of a root that nobody vouches for; nil if there is none.
func inRoot(root, name string) []byte {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	found, err := unix.Openat2(dir, name, how)
	if err != nil {
		return nil
	}
	defer unix.Close(found)
	var st unix.Stat_t // what is no file is not opened: a FIFO would have us wait
	if err := unix.Fstat(found, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > mostAccounts {
		return nil
	}
	text, _ := disk.ReadAtMost("/proc/self/fd/"+strconv.Itoa(found), mostAccounts)
	return text
}

// mostAccounts is bytes of an /etc/passwd that is looked at.
const mostAccounts = 4 << 20

// hasEnv reports whether a list of NAME=VALUE has a name.
func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}
