package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testimage"
)

// idle are the calls that change nothing which outlives the process: to be killed before
// one of them is to be killed before the next that is not.
func idle(nr int) bool {
	switch nr {
	case unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_RT_SIGACTION,
		unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_YIELD,
		unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETEGID, unix.SYS_GETRANDOM,
		unix.SYS_NANOSLEEP, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CREATE1, unix.SYS_FCNTL, unix.SYS_FSTAT,
		unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_FSTATFS, unix.SYS_STATFS, unix.SYS_READLINKAT, unix.SYS_GETDENTS64,
		unix.SYS_LSEEK, unix.SYS_SET_TID_ADDRESS, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_PRLIMIT64, unix.SYS_READ,
		unix.SYS_PREAD64, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_TGKILL, unix.SYS_UMASK, unix.SYS_PIPE2,
		unix.SYS_GETPPID, unix.SYS_UNAME, unix.SYS_SCHED_GETPARAM, unix.SYS_CAPGET, unix.SYS_DUP3, unix.SYS_PIDFD_OPEN:
		return true
	}
	return false
}

// start is a way to start a container.
type start struct {
	name  string
	args  []string // after "run"
	kept  bool     // the container may be kept
	image bool     // it is made of an image, and begins with a volume that is filled from it
}

func starts() []start {
	return []start{
		{"plain", []string{"--rm"}, false, false},
		{"kept", nil, true, false},
		{"limits", []string{"--rm", "--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "-v", "vol:/srv/data", "-v", "/srv/anonymous"}, false, false},
		{"no init", []string{"--rm", "--no-init", "-v", "vol:/srv/a", "-v", "vol:/srv/b"}, false, false},
		{"terminal", []string{"--rm", "-t"}, false, false},
		{"image", []string{"--rm", "-v", "/anonymous"}, false, true},
	}
}

// imageName is an image with busybox.
const imageName = "busybox:crash"

// load brings the image. Its volume's place, /bin, has more than one file.
func (w *world) load() {
	w.t.Helper()
	archive := filepath.Join(w.t.TempDir(), "image.tar")
	testimage.Busybox(w.t).WriteDockerArchive(w.t, archive, imageName)
	w.must("load", "-i", archive)
	w.files = w.must("run", "--rm", imageName, "ls", "/bin")
}

// command is a run that ends with status 7.
func (w *world) command(s start, name string) *exec.Cmd {
	args := append([]string{"run", "--name", name}, s.args...)
	if !s.image {
		return w.corten(append(args, "host", "sh", "-c", "exit 7")...)
	}
	return w.corten(append(args, "-v", name+":/bin", imageName, "sh", "-c", "exit 7")...)
}

// TestKillCommand kills the command before each of its system calls that matter, and before
// those of the process that is to be the container's. Each start of the table takes its
// turn, and so does each run of the test: together they try every point.
func TestKillCommand(t *testing.T) {
	everyStart(t, func(w *world, s start, n int) (done bool) {
		return w.killAt(s, n, func(call) bool { return true }, verdict{killCommand: true})
	})
}

// TestKillChild kills only the process that is to be the container's, at each of its rows.
func TestKillChild(t *testing.T) {
	everyStart(t, func(w *world, s start, n int) (done bool) {
		return w.killAt(s, n, func(c call) bool { return c.child }, verdict{killCaller: true})
	})
}

func everyStart(t *testing.T, try func(w *world, s start, n int) (done bool)) {
	if !canTrace {
		t.Skip("needs an amd64 machine")
	}
	for i, s := range starts() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			if s.image {
				w.load()
			}
			n, step := 1+(i+os.Getpid())%(3*len(starts())), 3*len(starts())
			if full() {
				n, step = 1, 1
			}
			for done := false; !done && !t.Failed(); n += step {
				done = try(w, s, n)
			}
			t.Logf("%d points", n-step)
		})
	}
}

// killAt kills at the n-th call that counts, and reports whether the command came to its
// end before. The name is the next command's too: it is free unless the container is kept.
func (w *world) killAt(s start, n int, counts func(call) bool, kill verdict) (done bool) {
	w.t.Helper()
	name := "same"
	if s.kept || s.image {
		name = fmt.Sprintf("name%d", n)
	}
	cmd := w.command(s, name)
	said := w.listen(cmd)
	count, where := 0, ""
	ws := trace(w.t, cmd, func(c call) verdict {
		if !counts(c) || !full() && idle(c.nr) {
			return verdict{}
		}
		if count++; count != n {
			return verdict{}
		}
		where = fmt.Sprintf("killed at %d: %v", n, c)
		return kill
	})
	if where == "" && ws.ExitStatus() != 7 {
		w.t.Errorf("without a kill: status %v\n%s", ws, said())
	}
	if !w.ends() {
		w.t.Error(where)
		return true
	}
	if kill.killCaller && where != "" {
		w.childKilled(s, ws, said(), where)
	}
	w.after(s, name, where)
	return where == ""
}

// childKilled checks what the command makes of the death of its child: it says so, and
// leaves nothing.
func (w *world) childKilled(s start, ws syscall.WaitStatus, said, where string) {
	w.t.Helper()
	if code := ws.ExitStatus(); code != 137 && (code != 125 || !strings.Contains(said, "corten: error: ")) {
		w.t.Errorf("%s: status %d, said %q", where, code, said)
	}
	if !s.kept {
		w.clean(where + ", before another command")
	}
}

// after runs the next command under the same name and looks at what is left.
func (w *world) after(s start, name, where string) {
	w.t.Helper()
	if s.image {
		files := w.must("run", "--rm", "--name", name, "-v", name+":/mnt", imageName, "ls", "/mnt")
		// Who has a volume first says what is in it, and after the kill that may be this one,
		// whose place is empty.
		if files != "" && files != w.files {
			w.t.Errorf("%s: the volume has %q", where, files)
		}
		w.clean(where)
		return
	}
	if !s.kept {
		w.must("run", "--rm", "--name", name, "host", "true")
		w.clean(where)
		return
	}
	w.sweep()
	if _, err := os.Lstat(filepath.Join(w.root, "names", name)); err == nil {
		w.kept = append(w.kept, name)
	} else {
		w.must("run", "--rm", "--name", name, "host", "true")
	}
	w.clean(where, w.kept...)
}
