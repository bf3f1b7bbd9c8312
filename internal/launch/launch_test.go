package launch_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// busyboxRoot makes a root file system with Debian's static busybox.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	bb, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	dir := t.TempDir()
	for _, d := range []string{"bin", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), bb, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "true", "id", "cat", "ls", "mount", "ps", "echo", "sleep", "stat", "hostname", "touch", "readlink", "chmod"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// input is a plan's input for a container on a plain directory as its lower layer.
func input(t testing.TB, args ...string) decide.Input {
	t.Helper()
	layer := t.TempDir()
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(layer, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &spec.Container{
		Process: spec.Process{Args: args, Cwd: "/"},
		Namespaces: spec.Namespaces{Hostname: "box", User: spec.UserNS{
			UIDMap: []spec.IDMap{{Container: 0, Host: 1 << 30, Size: 65536}},
			GIDMap: []spec.IDMap{{Container: 0, Host: 1 << 30, Size: 65536}},
		}},
		Security: spec.Security{Capabilities: plan.DefaultCaps(), Masked: plan.DefaultMasked(), ReadOnlyPaths: plan.DefaultReadOnly()},
		Life:     spec.Life{NoInit: true},
	}
	return decide.Input{
		Container: c,
		Root: plan.Root{
			Open: []plan.Step{
				plan.CloneMount{Path: busyboxRoot(t), What: "the tree", As: "tree"},
				plan.CloneMount{Path: layer, What: "the writable layer", As: "layer"},
			},
			Overlay: plan.Overlay{Lower: []plan.Handle{"tree"}, Writable: "layer"},
		},
		Accounts: plan.Accounts{Passwd: []byte("root:x:0:0::/root:/bin/sh\n")},
	}
}

// run launches a plan whose stdout is a pipe and returns what it wrote. Since the child
// inherits the descriptors of this process, the test is run as a child of itself.
func run(t *testing.T, in decide.Input) (string, launch.Status) {
	t.Helper()
	return runBy(t, launch.Start, in)
}

func runBy(t *testing.T, start func(plan.Plan, launch.Env) (*launch.Process, error), in decide.Input) (string, launch.Status) {
	t.Helper()
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.Child = append([]plan.Step(nil), p.Child...)
	for i, s := range p.Child {
		if s, ok := s.(plan.Stdio); ok {
			s.Out = "out"
			p.Child[i] = s
		}
	}
	proc, err := start(p, launch.Env{Files: map[plan.Handle]*os.File{"out": w}})
	w.Close()
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	defer proc.Close()
	out, _ := io.ReadAll(r)
	st, err := proc.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return string(out), st
}

func TestContainerSeesItself(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out, st := run(t, input(t, "sh", "-c", "id -u; hostname; ls /; ls /dev; touch /new && stat -c %u /new; cat /proc/self/uid_map; ps"))
	if st.Code != 0 || st.Signal != 0 {
		t.Errorf("status %+v", st)
	}
	for _, want := range []string{"0\nbox\n", "urandom", "1073741824"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	before, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(before, []byte("overlay")) {
		t.Errorf("a mount is left:\n%s", before)
	}
	_ = exec.Command
	t.Log(out)
}

// The image's own /dev can lie over ours, with a link to a descriptor of the launcher in
// the place of null. Stdin and masks take the true one all the same.
func TestNullIsNeverTheImages(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dev := t.TempDir()
	if err := os.Symlink("/proc/self/fd/0", filepath.Join(dev, "null")); err != nil {
		t.Fatal(err)
	}
	in := input(t, "sh", "-c", "readlink /dev/null; stat -L -c %t:%T /proc/self/fd/0 /proc/timer_list; cat /proc/timer_list")
	in.Container.Mounts = []spec.Mount{{Type: spec.Bind, Source: dev, Target: "/dev"}}
	in.Sources = []plan.Source{{Path: dev}}
	out, st := run(t, in)
	if want := "/proc/self/fd/0\n1:3\n1:3\n"; st.Code != 0 || out != want {
		t.Errorf("status %+v, output %q, want %q", st, out, want)
	}
}

// A pipe may be shared with others on the host: the container opens it again in its own
// direction only, and a pipe with a name is left alone.
func TestPipesOpenOneWay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out, st := run(t, input(t, "sh", "-c", `echo written >/dev/stdout
(cat </dev/stdout) 2>/dev/null && echo read
(chmod 666 /dev/stdout) 2>/dev/null && echo changed; :`))
	if st.Code != 0 || out != "written\n" {
		t.Errorf("status %+v, output %q", st, out)
	}
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	in := input(t, "true")
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	p.Child = append([]plan.Step(nil), p.Child...)
	for i, s := range p.Child {
		if _, ok := s.(plan.Stdio); ok {
			p.Child[i] = plan.Stdio{NoStdin: true, Out: "fifo", Err: "fifo"}
		}
	}
	proc, err := launch.Start(p, launch.Env{Files: map[plan.Handle]*os.File{"fifo": fifo}})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if _, err := proc.Wait(); err != nil {
		t.Fatal(err)
	}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Uid != 0 || s.Gid != 0 || s.Mode&0o777 != 0o600 {
		t.Errorf("the host's fifo changed: %d:%d %o, %v", s.Uid, s.Gid, s.Mode, err)
	}
}

// A device node that an image brought is no way to the device, whatever its mode.
func TestNodesOfImagesDoNotOpen(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "ls /node && cat /dev/null /node")
	tree := in.Root.Open[0].(plan.CloneMount).Path
	if err := unix.Mknod(filepath.Join(tree, "node"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(tree, "node"), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, st := run(t, in); st.Code != 1 || out != "/node\n" {
		t.Errorf("status %+v, output of %d bytes", st, len(out))
	}
}

// Nothing of the host's tree may be left in the container's mount namespace, reachable or
// not: whatever is mounted there hangs on the container's own root.
func TestHostTreeIsGone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out, _ := run(t, input(t, "cat", "/proc/self/mountinfo"))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	ids := map[string]bool{}
	for _, l := range lines {
		ids[strings.Fields(l)[0]] = true
	}
	roots := 0
	for _, l := range lines {
		f := strings.Fields(l)
		if !ids[f[1]] {
			roots++
		}
		if f[4] == "/" && !strings.Contains(l, " - overlay ") {
			t.Errorf("mounted at /: %s", l)
		}
		if strings.HasPrefix(f[3], "/..") {
			t.Errorf("of the host: %s", l)
		}
	}
	if roots != 1 || len(lines) > 40 {
		t.Errorf("%d trees of mounts, want 1; %d mounts:\n%s", roots, len(lines), out)
	}
}

func BenchmarkStart(b *testing.B) {
	in := input(b, "true")
	p, err := decide.Make(in)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		proc, err := launch.Start(p, launch.Env{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := proc.Wait(); err != nil {
			b.Fatal(err)
		}
		proc.Close()
	}
}
