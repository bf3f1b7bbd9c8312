// Package testsystemd boots the host's systemd in namespaces of a test's own, where it is PID 1 and has
// the control groups below one of the test's: what speaks with systemd is tried on hosts that run
// something else.
package testsystemd

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed box.sh
var script string

// Boot boots it until the test ends, and returns the beginning of the command lines of programs that
// run beside it.
func Boot(t testing.TB) (enter []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to boot systemd in namespaces")
	}
	for _, file := range []string{"/lib/systemd/systemd", "/usr/bin/nsenter", "/usr/bin/unshare"} {
		if _, err := os.Stat(file); err != nil {
			t.Skip("needs " + file + ": apt-get install systemd util-linux")
		}
	}
	group := "corten-test-systemd-" + strconv.Itoa(os.Getpid())
	var said strings.Builder
	cmd := exec.Command("sh", "-c", script, "sh", group)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, cmd, group) })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		pid := child(cmd.Process.Pid)
		if pid == "" {
			continue
		}
		enter = []string{"nsenter", "-t", pid, "-m", "-p", "-C", "-i", "-u", "-n"}
		if out, _ := exec.Command(enter[0], append(enter[1:], "systemctl", "is-system-running")...).Output(); string(out) == "running\n" {
			// Root of a user namespace may mount a proc only where he sees all of one.
			_ = exec.Command(enter[0], append(enter[1:], "umount", "/proc/sys")...).Run()
			return enter
		}
	}
	t.Fatalf("systemd does not come up: %s", said.String())
	return nil
}

// child is the first process that unshare made; empty if there is none.
func child(pid int) string {
	n := strconv.Itoa(pid)
	b, _ := os.ReadFile("/proc/" + n + "/task/" + n + "/children")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// end kills systemd, with which all processes there end, and removes its groups.
func end(t testing.TB, cmd *exec.Cmd, group string) {
	if pid, err := strconv.Atoi(child(cmd.Process.Pid)); err == nil {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = cmd.Wait() // unshare ends with its child
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + group)
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+group) {
		if err := remove(dir); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

// remove removes a group and those in it; processes that were killed may be on their way out.
func remove(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			if err := remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err := os.Remove(dir)
	for deadline := time.Now().Add(10 * time.Second); err != nil && !os.IsNotExist(err) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err = os.Remove(dir)
	}
	return err
}
