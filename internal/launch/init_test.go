package launch_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// attended is a plan's input for a container with corten-init, which is built for it.
func attended(t *testing.T, args ...string) decide.Input {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, args...)
	in.Container.Life.NoInit = false
	in.Host = plan.Facts{Init: filepath.Join(t.TempDir(), "corten-init"), Hidden: true}
	cmd := exec.Command("go", "build", "-ldflags", "-E=main.entry", "-o", in.Host.Init, "../../cmd/corten-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build corten-init: %v\n%s", err, out)
	}
	hide(t, in.Host.Init)
	return in
}

// hide makes a program that containers cannot read.
func hide(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.Chmod(path, 0o711), os.Chown(path, 0, 0)); err != nil {
		t.Fatal(err)
	}
}

// gated has the command wait for corten-init.
func gated(in decide.Input) decide.Input {
	in.Host.Hidden = false
	return in
}

// files makes a pipe for each name; the launcher gets the write ends.
func pipes(t *testing.T, env launch.Env, names ...plan.Handle) map[plan.Handle]*os.File {
	t.Helper()
	read := map[plan.Handle]*os.File{}
	for _, name := range names {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		read[name], env.Files[name] = r, w
	}
	return read
}

// launched starts a plan whose stdout is the handle "out", and closes our write ends.
func launched(t *testing.T, in decide.Input, env launch.Env) (*launch.Process, error) {
	t.Helper()
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	p.Child = slices.Clone(p.Child)
	for i, s := range p.Child {
		if s, ok := s.(plan.Stdio); ok && env.Files["out"] != nil {
			s.Out = "out"
			p.Child[i] = s
		}
	}
	proc, err := launch.Start(p, env)
	for _, name := range []plan.Handle{"out", plan.Report} {
		if f := env.Files[name]; f != nil {
			f.Close()
		}
	}
	if err == nil {
		t.Cleanup(func() { proc.Close() })
	}
	return proc, err
}

// TestInit shows PID 1 and the command what is theirs, with and without a gate.
func TestInit(t *testing.T) {
	// Without a gate the command may be there before PID 1 has executed corten-init.
	const settled = "until case $(cat /proc/1/cmdline) in corten-init*) ;; *) false;; esac; do :; done; "
	in := attended(t, "sh", "-c", settled+"ps -o pid,args; echo $(ls /proc/self/fd); cat <&4; (sleep 100 &); readlink /proc/1/fd/0 || exit 7")
	for _, in := range []decide.Input{in, gated(in)} {
		one, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		two := filepath.Join(t.TempDir(), "two")
		if err := os.WriteFile(two, []byte("content of two\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		in.FDs = []plan.Handle{"one", "two"}
		in.Root.Open = append(slices.Clone(in.Root.Open), plan.OpenFile{Path: two, As: "two"})
		env := launch.Env{Files: map[plan.Handle]*os.File{"one": one}}
		read := pipes(t, env, "out", plan.Report)
		descriptors := openFiles(t)
		proc, err := launched(t, in, env)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := io.ReadAll(read["out"])
		report, _ := io.ReadAll(read[plan.Report])
		st, err := proc.Wait()
		if err != nil || st.Code != 7 || string(report) != "\x07" {
			t.Errorf("%+v, %v, report %q", st, err, report)
		}
		for _, want := range []string{"    1 corten-init:2\n", "    2 sh -c until", "0 1 2 3 4 5\n", "content of two\n"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		proc.Close()
		if now := openFiles(t); len(now) > len(descriptors) {
			t.Errorf("descriptors %v, before %v", now, descriptors)
		}
	}
}

// TestInitHolds looks at what PID 1 has open, from outside.
func TestInitHolds(t *testing.T) {
	in := attended(t, "sh", "-c", "echo ready; read x; exit 3")
	in.Container.Process.Stdin = true
	in.Guards = []plan.Handle{"guard"}
	for _, in := range []decide.Input{in, gated(in)} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		guard, err := os.Open("/etc/hostname")
		if err != nil {
			t.Fatal(err)
		}
		defer guard.Close()
		passed, err := os.Open("/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		defer passed.Close()
		report, err := os.Create(filepath.Join(t.TempDir(), "exit"))
		if err != nil {
			t.Fatal(err)
		}
		in.FDs = []plan.Handle{"passed"}
		env := launch.Env{Files: map[plan.Handle]*os.File{"in": r, "guard": guard, "passed": passed, plan.Report: report}}
		out := pipes(t, env, "out")["out"]
		p, err := decide.Make(in)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range p.Child {
			if _, ok := s.(plan.Stdio); ok {
				p.Child[i] = plan.Stdio{In: "in", Out: "out"}
			}
		}
		proc, err := launch.Start(p, env)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		// It lets go of its end of the gate a moment after the command has seen that it may begin.
		want, open := []string{"4 " + report.Name(), "5 /etc/hostname"}, []string(nil)
		for end := time.Now().Add(10 * time.Second); !slices.Equal(open, want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			open = holds(proc.PID)
		}
		if !slices.Equal(open, want) {
			t.Errorf("PID 1 holds %q, want %q", open, want)
		}
		if _, err := w.WriteString("x\n"); err != nil {
			t.Fatal(err)
		}
		if st, err := proc.Wait(); err != nil || st.Code != 3 {
			t.Errorf("%+v, %v", st, err)
		}
		proc.Close()
		if b, err := os.ReadFile(report.Name()); err != nil || string(b) != "\x03" {
			t.Errorf("report %q, %v", b, err)
		}
	}
}

// holds is what a process has open besides its stdio.
func holds(pid int) (open []string) {
	for n := 3; n < 20; n++ {
		if to, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(n)); err == nil {
			open = append(open, strconv.Itoa(n)+" "+to)
		}
	}
	return open
}

// TestInitLingers: what was written last stays until somebody takes it, and who goes on
// writing is ended with the command.
func TestInitLingers(t *testing.T) {
	in := attended(t, "sh", "-c", "(while echo more; do :; done) & echo last words; exit 5")
	in.Guards = []plan.Handle{"guard"}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	env := launch.Env{Files: map[plan.Handle]*os.File{"out": w, "guard": guard}}
	report := pipes(t, env, plan.Report)[plan.Report]
	proc, err := launched(t, in, env)
	if err != nil {
		t.Fatal(err)
	}
	guard.Close()
	both.Close() // from here on only PID 1 could read
	if b, err := io.ReadAll(io.LimitReader(report, 1)); err != nil || string(b) != "\x05" {
		t.Errorf("report %q, %v", b, err)
	}
	if err := proc.Signal(unix.SIGTERM); err != nil { // in vain
		t.Errorf("it did not stay: %v", err)
	}
	reader, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	b, err := io.ReadAll(reader) // until its last writer, PID 1, is gone
	if err != nil || !strings.Contains(string(b), "last words\n") {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	if st, err := proc.Wait(); err != nil || st.Code != 5 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestInitForwards passes signals to the command, wherever it is.
func TestInitForwards(t *testing.T) {
	in := attended(t, "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done")
	shared := gated(in)
	c := *in.Container
	c.Namespaces.PID.Mode = spec.Host
	shared.Container = &c
	for _, in := range []decide.Input{in, gated(in), shared} {
		env := launch.Env{Files: map[plan.Handle]*os.File{}}
		read := pipes(t, env, "out", plan.Report)
		proc, err := launched(t, in, env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read["out"].Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		if err := proc.Signal(unix.SIGUSR1); err != nil {
			t.Error(err)
		}
		if st, err := proc.Wait(); err != nil || st.Code != 9 {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

// TestInitTerminal gives the terminal to the command's process group, with the master as
// guard too.
func TestInitTerminal(t *testing.T) {
	in := attended(t, "sh", "-c", "ps -o pid,pgid,tty,args; cut -d' ' -f8 /proc/self/stat; cut -d' ' -f8 /proc/1/stat")
	in.Container.Process.Terminal, in.Guards = true, []plan.Handle{plan.Master}
	env := launch.Env{Files: map[plan.Handle]*os.File{}}
	pipes(t, env, plan.Report)
	proc, err := launched(t, in, env)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Terminal.Close()
	out, _ := io.ReadAll(proc.Terminal)
	if st, err := proc.Wait(); err != nil || st.Code != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	// The foreground group (tpgid, proc(5)) is the command's.
	if want := "\r\n2\r\n2\r\n"; !strings.HasSuffix(string(out), want) {
		t.Errorf("no %q in %q", want, out)
	}
}

// TestInitExecErrors: PID 1 may be corten-init already when the command cannot be executed.
func TestInitExecErrors(t *testing.T) {
	in := attended(t, "true")
	// A fifo as guard that is never empty must not keep anybody.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	in.Guards = []plan.Handle{"guard"}
	shared := gated(in)
	c := *in.Container
	c.Namespaces.PID.Mode = spec.Host
	shared.Container = &c
	descriptors, children := openFiles(t), kids(t)
	for _, in := range []decide.Input{in, gated(in), shared} {
		for command, want := range map[string]errs.Kind{
			"none": errs.NotFound, "/bin/none": errs.NotFound, "/bin": errs.Denied, "/etc/hostname": errs.Denied,
		} {
			in.Container.Process.Args = []string{command}
			in.Made = []plan.Made{{Target: "/etc/hostname", Content: "box"}}
			report, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = launched(t, in, launch.Env{Files: map[plan.Handle]*os.File{"guard": r, plan.Report: report}})
			if errs.KindOf(err) != want || !strings.HasPrefix(err.Error(), "execute "+command+": ") {
				t.Errorf("%s: %v", command, err)
			}
		}
	}
	if now := kids(t); !slices.Equal(now, children) {
		t.Errorf("children %v, before %v", now, children)
	}
	if now := openFiles(t); !slices.Equal(now, descriptors) {
		t.Errorf("descriptors %v, before %v", now, descriptors)
	}
}

// TestInitFails: without PID 1 the command must not run, or not for long; where it would
// outlive PID 1 it is not begun.
func TestInitFails(t *testing.T) {
	in := attended(t, "sh", "-c", "touch /ran")
	busybox, err := os.ReadFile("/bin/busybox") // as "corten-init" it ends at once
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"no program": []byte("text"), "no word": busybox} {
		if err := os.WriteFile(in.Host.Init, content, 0o711); err != nil {
			t.Fatal(err)
		}
		shared := gated(in)
		c := *in.Container
		c.Namespaces.PID.Mode = spec.Host
		shared.Container = &c
		report, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = launched(t, shared, launch.Env{Files: map[plan.Handle]*os.File{plan.Report: report}})
		if err == nil || !strings.Contains(err.Error(), "make a process for the command") {
			t.Errorf("%s: %v", name, err)
		}
		layer := in.Root.Open[1].(plan.CloneMount).Path
		if _, err := os.Lstat(filepath.Join(layer, "upper/ran")); err == nil {
			t.Errorf("%s: the command ran", name)
		}
	}
}

// TestInitHidden takes a program for PID 1 that does nothing to protect itself: where the
// command does not wait for it, the kernel alone keeps the command from it, and also one
// with every capability that its user namespace has.
func TestInitHidden(t *testing.T) {
	in := attended(t, "sh", "-c", `exec 2>/dev/null; for f in exe fd/0 cwd root ns/mnt; do readlink /proc/1/$f; done
for f in mem environ maps auxv; do (head -c 1 < /proc/1/$f) && echo read $f; (echo x > /proc/1/$f) && echo wrote $f; done
(cat /proc/1/exe) && echo read; (echo x > /proc/1/exe) && echo wrote; cat /proc/1/comm`)
	sleeper := filepath.Join(t.TempDir(), "sleep")
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sleeper, b, 0o711); err != nil {
		t.Fatal(err)
	}
	hide(t, sleeper)
	in.Host.Init = sleeper
	in.Container.Security.Privileged = true
	in.Container.Security.Capabilities = plan.AllCaps()
	env := launch.Env{Files: map[plan.Handle]*os.File{}}
	read := pipes(t, env, "out", plan.Report)
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range p.Child {
		switch s := s.(type) {
		case plan.Stdio:
			s.Out = "out"
			p.Child[i] = s
		case plan.Init:
			s.Args = []string{"sleep", "100"}
			p.Child[i] = s
		}
	}
	proc, err := launch.Start(p, env)
	env.Files["out"].Close()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	buf := make([]byte, 1000)
	n, _ := read["out"].Read(buf)
	_ = proc.Signal(unix.SIGKILL)
	_, _ = proc.Wait()
	if got := string(buf[:n]); got == "" || strings.Contains(got, "/") || strings.Contains(got, "read") || strings.Contains(got, "wrote") {
		t.Errorf("the command came at PID 1: %q", got)
	}
}

// TestMeanwhile is called while the process has not come to its command yet, and can tell when
// it has.
func TestMeanwhile(t *testing.T) {
	in := attended(t, "true")
	for _, noInit := range []bool{false, true} {
		in.Container.Life.NoInit = noInit
		env := launch.Env{Files: map[plan.Handle]*os.File{}}
		pipes(t, env, plan.Report)
		times := 0
		env.Meanwhile = func(busy func() bool) {
			for times++; !busy(); {
				runtime.Gosched()
			}
		}
		proc, err := launched(t, in, env)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := proc.Wait(); err != nil || st.Code != 0 || times != 1 {
			t.Errorf("%+v, %v, called %d times", st, err, times)
		}
	}
}
