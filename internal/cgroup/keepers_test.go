package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A delegated group is the user's to divide, and its limits are not.
func TestDelegate(t *testing.T) {
	h := realHost(t)
	if h.V2.Base == "" {
		t.Skip("needs cgroup v2")
	}
	dir := path.Join(h.V2.Mount, testParent, groupName(t))
	if err := makeParents(dir); err != nil {
		t.Fatal(err)
	}
	g := Group{dir}
	t.Cleanup(func() { _ = g.Remove(context.Background()) })
	if err := g.Delegate(nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"": nobody, "cgroup.procs": nobody, "cgroup.threads": nobody,
		"cgroup.subtree_control": nobody, "cgroup.freeze": 0, "cgroup.max.depth": 0} {
		var st unix.Stat_t
		if err := unix.Stat(path.Join(dir, name), &st); err != nil || st.Uid != want || st.Gid != want {
			t.Errorf("%q is of %d:%d, %v; want %d", name, st.Uid, st.Gid, err, want)
		}
	}
	if err := (Group{dir + "/none"}).Delegate(0, 0); err != nil {
		t.Errorf("a group that is gone: %v", err)
	}
}

// A keeper begins in the group for keepers, wherever its parent is.
func TestKeepers(t *testing.T) {
	h := realHost(t)
	if h.V2.Base == "" {
		t.Skip("needs cgroup v2")
	}
	fd := OpenKeepers()
	if fd < 0 {
		t.Fatal("no group for keepers")
	}
	defer unix.Close(fd)
	again := OpenKeepers()
	if again < 0 {
		t.Fatal("it is not found again")
	}
	unix.Close(again)
	cmd := exec.Command("/bin/cat", "/proc/self/cgroup")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	out, err := cmd.Output()
	if want := "0::" + path.Join(h.V2.Base, keepers) + "\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
}

// The v1 hierarchy of systemd, where it is mounted, is entered by the thread that executes the
// next program.
func TestEnterKeepers(t *testing.T) {
	if os.Getenv("CORTEN_TEST_KEEPERS") != "" {
		runtime.LockOSThread()
		EnterKeepers()
		t.Fatal(unix.Exec("/bin/cat", []string{"cat", "/proc/self/cgroup"}, nil))
	}
	if unix.Access("/sys/fs/cgroup/systemd/tasks", unix.W_OK) != nil {
		t.Skip("needs the v1 hierarchy of systemd")
	}
	for _, dir := range []string{DefaultParent, keepers} { // the inner one is removed first
		dir = "/sys/fs/cgroup/systemd/" + dir
		if unix.Access(dir, unix.F_OK) != nil {
			t.Cleanup(func() { _ = unix.Rmdir(dir) })
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestEnterKeepers$")
	cmd.Env = append(os.Environ(), "CORTEN_TEST_KEEPERS=1")
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), ":name=systemd:/"+keepers+"\n") {
		t.Errorf("%q, %v", out, err)
	}
}
