package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOrdinaryUser has a user of the host, who has no further ids and no control groups, run the
// container that spec --rootless describes.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	const uid = 65531 // nobody's
	home, err := os.MkdirTemp("", "corten-test-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	program := filepath.Join(home, "corten-oci")
	built, err := os.ReadFile(filepath.Join(os.Getenv(programs), "corten-oci"))
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{"corten-oci": built, "rootfs/bin/busybox": busybox} {
		for _, dir := range []string{"bin", "proc", "sys", "dev"} {
			if err := os.MkdirAll(filepath.Join(home, "rootfs", dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(home, file), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", "65531:65531", home).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	oci := func(args ...string) (string, error) {
		cmd := exec.Command(program, append([]string{"--root", home + "/state"}, args...)...)
		cmd.Dir, cmd.Env = home, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		null, err := os.OpenFile(home+"/out", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		cmd.Stdout, cmd.Stderr = null, null // a pipe would be waited for as long as the container has it
		err = cmd.Run()
		out, _ := os.ReadFile(home + "/out")
		return string(out), err
	}
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := oci(args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("%q: %v, want %q\n%s", args, err, want, out)
		}
	}
	must("", "spec", "--rootless")
	file := filepath.Join(home, "config.json")
	for path, value := range map[string]any{"process.terminal": false, "process.oomScoreAdj": 200, "process.args": []string{"busybox", "sleep", "1000"}} {
		if err := change(file, path, value); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = oci("delete", "-f", "c") })
	must("nothing is counted", "--rootless", "true", "create", "c")
	must(`"status": "created"`, "state", "c")
	must("", "start", "c")
	must("0          0          1", "exec", "c", "busybox", "cat", "/proc/self/uid_map")
	must("", "kill", "c", "KILL")
	must("", "delete", "-f", "c")

	// Limits take groups, which this user has not.
	if err := change(file, "linux.resources.pids", map[string]int{"limit": 5}); err != nil {
		t.Fatal(err)
	}
	if out, err := oci("create", "c"); err == nil || !strings.Contains(out, "not ours to use") {
		t.Errorf("%v: %s", err, out)
	}
	// Nor has he the ids of others.
	if err := change(file, "linux.resources", map[string]int{}); err != nil {
		t.Fatal(err)
	}
	if err := change(file, "linux.uidMappings+", map[string]int{"containerID": 1, "hostID": 1, "size": 5}); err != nil {
		t.Fatal(err)
	}
	if out, err := oci("create", "c"); err == nil || !strings.Contains(out, "none of this user's") {
		t.Errorf("%v: %s", err, out)
	}
}
