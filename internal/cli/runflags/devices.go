package runflags

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// devices is which of the host's devices the container has.
type devices struct {
	devices, rules []string
}

func (f *devices) bind(g group) {
	g.list(&f.devices, "device", "", "Give the container the device, or all in the folder, `HOST[:CONTAINER[:rwm]]` (repeatable)")
	g.list(&f.rules, "device-cgroup-rule", "", "Allow devices by `RULE`: type, numbers and access, as in 'c 1:* rwm' (repeatable)")
}

func (f *devices) fill(c *spec.Container) error {
	if c.Security.Privileged {
		all, err := walkDevices("/dev", "/dev", "rwm")
		if err != nil {
			return errs.Wrap("--privileged", "", err)
		}
		c.Devices = all
	}
	for _, s := range f.devices {
		found, err := parseDevice(s)
		if err != nil {
			return err
		}
		for _, d := range found {
			same := func(o spec.Device) bool { return o.Path == d.Path }
			c.Devices = append(slices.DeleteFunc(c.Devices, same), d)
		}
	}
	for _, s := range f.rules {
		r, ok := parseDeviceRule(s)
		if !ok {
			return values.Bad("device-cgroup-rule", s, "not a rule", "write the type (c, b or a), the numbers or *, and the access: 'c 1:3 rwm'")
		}
		c.Resources.Devices = append(c.Resources.Devices, r)
	}
	return nil
}

// parseDevice reads HOST[:CONTAINER][:ACCESS].
func parseDevice(s string) ([]spec.Device, error) {
	const hint = "write --device /dev/HOST, /dev/HOST:/dev/CONTAINER or /dev/HOST:/dev/CONTAINER:rwm"
	parts := strings.Split(s, ":")
	host, inside, access := parts[0], parts[0], "rwm"
	switch {
	case len(parts) == 2 && validAccess(parts[1]):
		access = parts[1]
	case len(parts) == 2:
		inside = parts[1]
	case len(parts) == 3 && validAccess(parts[2]):
		inside, access = parts[1], parts[2]
	case len(parts) != 1:
		return nil, values.Bad("device", s, "not a device", hint)
	}
	if !path.IsAbs(host) {
		if strings.Contains(host, "=") {
			return nil, values.NotBuilt("--device "+s+" (a CDI device)", "name the nodes in /dev")
		}
		return nil, values.Bad("device", s, "not an absolute path", hint)
	}
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return nil, errs.New(errs.KindOf(err), "--device", strconv.Quote(s), err).WithHint("ls -l /dev shows the devices of this machine")
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	d, ok := deviceOf(host, inside, access, &st)
	if !ok && !isDir {
		return nil, values.Bad("device", s, "neither a device nor a folder of devices", "to mount a file use -v")
	}
	d.Path = path.Clean(inside)
	if !strings.HasPrefix(d.Path, "/dev/") {
		return nil, values.Bad("device", s, "the container's devices are in /dev", hint)
	}
	if isDir {
		found, err := walkDevices(host, d.Path, access)
		if err == nil && len(found) == 0 {
			err = values.Bad("device", s, "no devices in this folder", "to mount a folder use -v")
		}
		return found, err
	}
	return []spec.Device{d}, nil
}

func deviceOf(host, inside, access string, st *unix.Stat_t) (spec.Device, bool) {
	d := spec.Device{HostPath: host, Path: inside, Access: access, Mode: st.Mode & 0o777,
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	}
	return d, d.Type != ""
}

// walkDevices finds the nodes below a folder. It leaves out what a container makes for
// itself: terminals, and the nodes that every container has.
func walkDevices(host, inside, access string) ([]spec.Device, error) {
	var out []spec.Device
	err := filepath.WalkDir(host, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // unplugged just now
			return nil
		}
		if err != nil {
			return err
		}
		target := inside + strings.TrimPrefix(p, host)
		if isOwnDevice(target) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return nil // unplugged just now
		}
		if d, ok := deviceOf(p, target, access, &st); ok {
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

func isOwnDevice(target string) bool {
	switch target {
	case "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx",
		"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd":
		return true
	}
	return false
}

// validAccess wants each of r, w and m at most once.
func validAccess(s string) bool {
	for i := range len(s) {
		if strings.IndexByte("rwm", s[i]) < 0 || strings.IndexByte(s[:i], s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// parseDeviceRule reads "TYPE MAJOR:MINOR ACCESS".
func parseDeviceRule(s string) (r spec.DeviceRule, ok bool) {
	parts := strings.Split(s, " ")
	if len(parts) != 3 || parts[0] != "a" && parts[0] != "b" && parts[0] != "c" || !validAccess(parts[2]) {
		return r, false
	}
	major, minor, _ := strings.Cut(parts[1], ":")
	r = spec.DeviceRule{Allow: true, Type: parts[0], Access: parts[2]}
	var ok1, ok2 bool
	r.Major, ok1 = deviceNumber(major)
	r.Minor, ok2 = deviceNumber(minor)
	return r, ok1 && ok2
}

// deviceNumber is nil for all of them.
func deviceNumber(s string) (*int64, bool) {
	if s == "*" {
		return nil, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	v := int64(n)
	return &v, err == nil
}
