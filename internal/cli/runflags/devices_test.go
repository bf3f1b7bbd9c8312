package runflags

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/spec"
)

func TestDevices(t *testing.T) {
	null := spec.Device{HostPath: "/dev/null", Path: "/dev/null", Access: "rwm", Type: "c", Mode: 0o666, Major: 1, Minor: 3}
	as := func(path, access string) spec.Device {
		d := null
		d.Path, d.Access = path, access
		return d
	}
	for text, want := range map[string]spec.Device{
		"/dev/null":               null,
		"/dev/null:/dev/x":        as("/dev/x", "rwm"),
		"/dev/null:r":             as("/dev/null", "r"),
		"/dev/null:mr":            as("/dev/null", "mr"),
		"/dev/null:/dev/x/y:rw":   as("/dev/x/y", "rw"),
		"/dev/null:/dev/../dev/x": as("/dev/x", "rwm"),
	} {
		if diff := cmp.Diff([]spec.Device{want}, mustParse(t, "--device", text).Devices); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	got := mustParse(t, "--device", "/dev/null:/dev/x:r", "--device", "/dev/null:/dev/x:w").Devices
	if diff := cmp.Diff([]spec.Device{as("/dev/x", "w")}, got); diff != "" {
		t.Error(diff)
	}
}

// A symbolic link names its device; a folder all devices in it.
func TestDeviceFolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, "--device", filepath.Join(dir, "link")+":/dev/z")
	if d := c.Devices[0]; d.Major != 1 || d.Minor != 5 || d.Path != "/dev/z" {
		t.Errorf("%+v", d)
	}
	if os.Getuid() != 0 {
		t.Skip("only root makes device nodes")
	}
	sub := filepath.Join(dir, "nodes", "sub")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, typ := range map[string]uint32{filepath.Join(sub, "a"): unix.S_IFCHR, filepath.Join(dir, "nodes", "b"): unix.S_IFBLK} {
		if err := unix.Mknod(path, typ|0o640, int(unix.Mkdev(250, 7))); err != nil {
			t.Skip("this machine lets nobody make device nodes:", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nodes", "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := mustParse(t, "--device", filepath.Join(dir, "nodes")+":/dev/n:rw").Devices
	want := []spec.Device{
		{HostPath: filepath.Join(dir, "nodes", "b"), Path: "/dev/n/b", Access: "rw", Type: "b", Mode: 0o640, Major: 250, Minor: 7},
		{HostPath: filepath.Join(sub, "a"), Path: "/dev/n/sub/a", Access: "rw", Type: "c", Mode: 0o640, Major: 250, Minor: 7},
	}
	for i := range got {
		got[i].Mode &^= 0o022 // what the umask leaves of them
		want[i].Mode &^= 0o022
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeviceRules(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	for text, want := range map[string]spec.DeviceRule{
		"c 1:3 rwm": {Allow: true, Type: "c", Major: n(1), Minor: n(3), Access: "rwm"},
		"b 8:* r":   {Allow: true, Type: "b", Major: n(8), Access: "r"},
		"a *:* rwm": {Allow: true, Type: "a", Access: "rwm"},
	} {
		if diff := cmp.Diff([]spec.DeviceRule{want}, mustParse(t, "--device-cgroup-rule", text).Resources.Devices); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}
