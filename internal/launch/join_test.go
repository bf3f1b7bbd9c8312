package launch_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// guest is a container that runs, to be joined.
type guest struct {
	c     *spec.Container
	files map[plan.Handle]*os.File
}

func newGuest(t *testing.T, change func(*decide.Input)) guest {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sleep", "1000")
	in.Container.Process.Terminal = false
	if change != nil {
		change(&in)
	}
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := launch.Start(p, launch.Env{})
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err1 := unix.PidfdOpen(proc.PID, 0)
	root, err2 := unix.Open("/proc/"+strconv.Itoa(proc.PID)+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	g := guest{in.Container, map[plan.Handle]*os.File{plan.Target: os.NewFile(uintptr(pidfd), "pidfd"), plan.TargetRoot: os.NewFile(uintptr(root), "root")}}
	t.Cleanup(func() {
		_ = proc.Signal(unix.SIGKILL)
		_, _ = proc.Wait()
		_ = proc.Close()
		for _, f := range g.files {
			_ = f.Close()
		}
	})
	return g
}

// join executes a command with a pipe as its stdout.
func (g guest) join(t *testing.T, ctx context.Context, change func(*decide.ExecInput), args ...string) (string, launch.Status, error) {
	t.Helper()
	in := decide.ExecInput{Container: g.c, Process: spec.Process{Args: args}}
	if change != nil {
		change(&in)
	}
	p, err := decide.MakeExec(in)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[plan.Handle]*os.File{"out": w}
	for h, f := range g.files {
		files[h] = f
	}
	for i, s := range p.Child {
		if s, ok := s.(plan.Stdio); ok && !s.Terminal {
			s.Out = "out"
			p.Child[i] = s
		}
	}
	proc, err := launch.Join(ctx, p, launch.Env{Files: files})
	w.Close()
	if err != nil {
		return "", launch.Status{}, err
	}
	defer proc.Close()
	if proc.Terminal != nil {
		defer proc.Terminal.Close()
		r = proc.Terminal
	}
	out, _ := io.ReadAll(r) // of a terminal it ends with an error
	if in.Detached {
		return string(out), launch.Status{}, nil
	}
	st, err := proc.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return string(out), st, nil
}

// TestJoin executes commands in a container, and leaves nothing open and no process behind.
func TestJoin(t *testing.T) {
	g := newGuest(t, nil)
	fds, children := openFiles(t), kids(t)
	for _, test := range []struct {
		name   string
		change func(*decide.ExecInput)
		line   string
		want   string
	}{
		{"plain", nil, "id -u; hostname; cat /proc/1/comm", "0\nbox\nsleep\n"},
		{"user", func(in *decide.ExecInput) { in.Process.User = "7:8" }, "id -u; id -g", "7\n8\n"},
		{"terminal", func(in *decide.ExecInput) { in.Process.Terminal = true }, "readlink /proc/self/fd/1", "/dev/pts/0\r\n"},
		{"detached", func(in *decide.ExecInput) { in.Detached = true }, "echo $PPID", ""},
		{"limits", func(in *decide.ExecInput) {
			c := *in.Container
			c.Process.Rlimits = []spec.Rlimit{{Name: "nofile", Soft: 20, Hard: 30}}
			in.Container = &c
		}, "ulimit -Sn; ulimit -Hn", "20\n30\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, st, err := g.join(t, t.Context(), func(in *decide.ExecInput) {
				if test.change != nil {
					test.change(in)
				}
			}, "sh", "-c", test.line)
			if err != nil || st.Code != 0 || st.Signal != 0 || test.name != "detached" && out != test.want {
				t.Errorf("%q, %+v, %v", out, st, err)
			}
		})
	}
	if now := openFiles(t); !slices.Equal(now, fds) {
		t.Errorf("open were %v and are %v", fds, now)
	}
	if now := kids(t); !slices.Equal(now, children) {
		t.Errorf("children were %v and are %v", children, now)
	}
}

// TestJoinFails quotes the step that failed, whichever process met it.
func TestJoinFails(t *testing.T) {
	g := newGuest(t, nil)
	fds, children := openFiles(t), kids(t)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name   string
		ctx    context.Context
		change func(*decide.ExecInput)
		args   []string
		want   string
		kind   errs.Kind
	}{
		{"no such command", nil, nil, []string{"none"}, "execute none: no such file", errs.NotFound},
		{"no program", nil, nil, []string{"/etc"}, "execute /etc: permission denied", errs.Denied},
		{"one is denied", nil, func(in *decide.ExecInput) { in.Process.Env = []string{"PATH=/:/none"} }, []string{"etc"}, "execute etc: permission denied", errs.Denied},
		{"no folder", nil, func(in *decide.ExecInput) { in.Process.Cwd = "/none" }, []string{"true"}, "work in /none: no such file", errs.NotFound},
		{"a folder that leads out", nil, func(in *decide.ExecInput) { in.Process.Cwd = "/proc/1/root" }, []string{"true"}, "work in /proc/1/root: too many levels", errs.Other},
		{"no such user", nil, func(in *decide.ExecInput) { in.Process.User = "70000" }, []string{"true"}, "become user 70000, group 0: invalid argument", errs.Other},
		{"no such group", nil, func(in *decide.ExecInput) { in.V2 = "/none" }, []string{"true"}, "open /none: the control group to be in: no such file", errs.NotFound},
		{"no control group", nil, func(in *decide.ExecInput) { in.V2 = "/tmp" }, []string{"true"}, "go on as another process, in the control group /tmp: ", errs.Other},
		{"the same for an orphan", nil, func(in *decide.ExecInput) { in.V2, in.Detached = "/tmp", true }, []string{"true"}, "go on as another process, whose parent", errs.Other},
		{"an orphan's command", nil, func(in *decide.ExecInput) { in.Detached = true }, []string{"none"}, "execute none: no such file", errs.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx
			}
			_, _, err := g.join(t, ctx, test.change, test.args...)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || errs.KindOf(err) != test.kind {
				t.Errorf("%v (%v)", err, errs.KindOf(err))
			}
		})
	}
	for range 20 {
		for _, detached := range []bool{false, true} {
			_, _, err := g.join(t, done, func(in *decide.ExecInput) { in.Detached = detached }, "sleep", "1000")
			if !errs.Is(err, errs.Canceled) {
				t.Fatalf("when there is no time: %v", err)
			}
		}
	}
	if now := openFiles(t); !slices.Equal(now, fds) {
		t.Errorf("open were %v and are %v", fds, now)
	}
	if now := kids(t); !slices.Equal(now, children) {
		t.Errorf("children were %v and are %v", children, now)
	}
}

// TestJoinTheDead: a container that is gone cannot be joined, and nobody waits for it.
func TestJoinTheDead(t *testing.T) {
	g := newGuest(t, nil)
	pidfd := int(g.files[plan.Target].Fd())
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 10000); err != nil {
		t.Fatal(err)
	}
	for _, detached := range []bool{false, true} {
		_, _, err := g.join(t, t.Context(), func(in *decide.ExecInput) { in.Detached = detached }, "true")
		if err == nil || !strings.HasPrefix(err.Error(), "join the container's namespaces: ") {
			t.Error(err)
		}
	}
}
