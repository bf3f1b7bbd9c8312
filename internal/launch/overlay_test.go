package launch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
)

// inSharedMounts runs f on a thread with a mount namespace whose mounts are all shared, as
// systemd leaves them. Whatever is mounted or unmounted there meanwhile is an error.
func inSharedMounts(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends
		if unix.Gettid() == unix.Getpid() {
			inSharedMounts(t, f)
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		dropForeign(t)
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			t.Error(err)
			return
		}
		table, err := unix.Open("/proc/thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(table)
		f()
		// proc_pid_mountinfo(5): the file polls as POLLPRI, once, when the table has changed. The
		// runtime must not have it: it would be the one to be told.
		fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
		if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
			t.Errorf("the host's mounts changed: poll %d, %v", n, err)
		}
	}()
	<-done
}

// dropForeign unmounts what other tests have mounted just now: the kernel takes such a mount
// away in all namespaces when its directory is removed (rmdir(2)), and that is none of ours.
func dropForeign(t *testing.T) {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(b)) {
		at := strings.Fields(line)[4]
		if strings.HasPrefix(at, "/tmp/") || strings.HasPrefix(at, "/var/tmp/") || strings.HasPrefix(at, "/run/") {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
}

// Kernels differ in what they take as an overlay's layers. Either way the container gets
// the same root, and the host sees nothing of it.
func TestOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for name, start := range map[string]func(plan.Plan, launch.Env) (*launch.Process, error){
		"as this kernel can": launch.Start, "on attached layers": launch.StartAttached,
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t, "sh", "-c", "touch /new && stat -c %u:%g /new /bin/busybox; cat /etc/hosts; ls /proc/acpi /sys/firmware; cat /proc/self/mountinfo")
			in.Made = []plan.Made{{Target: "/etc/hosts", Content: "1.2.3.4 made\n"}, {Target: "/etc/hostname", Content: "box\n"}}
			var out string
			var st launch.Status
			inSharedMounts(t, func() { out, st = runBy(t, start, in) })
			if want := "0:0\n0:0\n1.2.3.4 made\n"; st.Code != 0 || !strings.HasPrefix(out, want) {
				t.Errorf("status %+v, output %q, want %q", st, out, want)
			}
			var s unix.Stat_t
			file := filepath.Join(in.Root.Open[1].(plan.CloneMount).Path, "upper/new")
			if err := unix.Stat(file, &s); err != nil || s.Uid != 0 || s.Gid != 0 {
				t.Errorf("%s is owned by %d:%d on disk, %v", file, s.Uid, s.Gid, err)
			}
			if n := strings.Count(out, " - overlay "); n != 1 {
				t.Errorf("%d overlays in:\n%s", n, out)
			}
		})
	}
}
