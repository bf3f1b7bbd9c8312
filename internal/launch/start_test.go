package launch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// TestExecErrors tells a command that is not there from one that cannot be executed.
func TestExecErrors(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "true")
	tree := in.Root.Open[0].(plan.CloneMount).Path
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"opt/text": {"not a program", 0o755}, "opt/plain": {"#!/bin/sh\n", 0o644}, "opt/script": {"#!/bin/none\n", 0o755},
		"opt/good": {"#!/bin/sh\nexit 4\n", 0o755}, "opt/foreign": {"\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57), 0o755},
		"deny/good": {"#!/bin/sh\n", 0o600},
	} {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f.text), f.mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		command, path string
		want          errs.Kind
		hint          string
	}{
		{"/bin/none", "", errs.NotFound, "not in the container"},
		{"/bin/true/none", "", errs.NotFound, "not in the container"},
		{"none", "/bin:/opt", errs.NotFound, "PATH"},
		{"none", "", errs.NotFound, "PATH"},
		{"/opt/script", "", errs.NotFound, "interpreter"},
		{"/opt", "", errs.Denied, ""},
		{"/opt/plain", "", errs.Denied, ""},
		{"/opt/text", "", errs.Denied, "architecture"},
		{"/opt/foreign", "", errs.Denied, "architecture"},
		{"good", "/deny:/none", errs.Denied, ""},
		{"good", "/deny", errs.Denied, ""},
		{"text", "/bin:/opt", errs.Denied, "architecture"},
		{strings.Repeat("x", 300), "/bin", errs.Denied, ""},
		{"/" + strings.Repeat("x/", 3000), "", errs.Denied, ""},
	} {
		in.Container.Process.Args = []string{test.command}
		in.Container.Process.Env = []string{"PATH=" + test.path}
		p, err := decide.Make(in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = launch.Start(p, launch.Env{})
		if errs.KindOf(err) != test.want || !strings.HasPrefix(err.Error(), "execute "+test.command+": ") || !strings.Contains(errs.HintOf(err), test.hint) {
			t.Errorf("%.40s in %q: %.200v (%v, hint %q)", test.command, test.path, err, errs.KindOf(err), errs.HintOf(err))
		}
	}
	in.Container.Process.Args = []string{"good"}
	in.Container.Process.Env = []string{"PATH=/none:/deny:/bin:/opt"}
	if _, st := run(t, in); st.Code != 4 {
		t.Errorf("found last in PATH: %+v", st)
	}
}

// with makes a plan and puts a step before the first of a kind.
func with(t *testing.T, in decide.Input, kind string, extra plan.Step) plan.Plan {
	t.Helper()
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []*[]plan.Step{&p.Host, &p.Child} {
		if i := slices.IndexFunc(*list, func(s plan.Step) bool { return s.Kind() == kind }); i >= 0 {
			*list = slices.Insert(slices.Clone(*list), i, extra)
			return p
		}
	}
	t.Fatalf("no step %s", kind)
	return p
}

// TestStepsFail has a step of each kind fail: the error quotes it, with the kernel's reason,
// and nothing is left.
func TestStepsFail(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("garbage"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := func(size uint32) []spec.IDMap { return []spec.IDMap{{Container: 0, Host: 1 << 30, Size: size}} }
	for _, test := range []struct {
		before string
		step   plan.Step
		want   error
	}{
		// the host's
		{"clone", plan.CloneMount{Path: "/none", As: "x"}, unix.ENOENT},
		{"clone", plan.MountImage{File: file, As: "x"}, unix.EINVAL},
		{"clone", plan.MountImage{File: "/none", As: "x"}, unix.ENOENT},
		{"clone", plan.OpenFile{Path: "/none", As: "x"}, unix.ENOENT},
		{"clone", plan.OpenFile{Path: "/", Write: true, As: "x"}, unix.EISDIR},
		{"clone", plan.Clone{Namespaces: []string{"none"}}, nil},
		{"clone", plan.Clone{Group: "/none"}, unix.ENOENT},
		{"clone", plan.Clone{Group: "/tmp"}, unix.EBADF},
		{"clone", plan.MakeGroups{}, unix.ENOTTY}, // what the caller says
		{"release", plan.OpenProc{Name: "none", As: "x"}, unix.ENOENT},
		{"map-ids", plan.MapIDs{UID: ids(0), GID: ids(1)}, unix.EINVAL},
		{"release", plan.MapIDs{UID: ids(1), GID: ids(1)}, unix.EPERM}, // a second time
		{"release", plan.IDMap{Mount: "layer"}, unix.EPERM},            // likewise
		{"release", plan.Limit{Rlimit: spec.Rlimit{Soft: 2, Hard: 1}, Resource: unix.RLIMIT_CORE}, unix.EINVAL},
		{"release", plan.OOMScore{Value: 5000}, unix.EINVAL},
		{"release", plan.MakeDev{Nodes: []spec.Device{{Path: "/none", Type: "c"}}, As: "x"}, nil},
		{"release", plan.MakeDev{Nodes: []spec.Device{{Path: "/dev/" + strings.Repeat("x", 300), Type: "c"}}, As: "x"}, unix.ENAMETOOLONG},
		{"release", plan.Overlay{Lower: []plan.Handle{"layer"}, Writable: plan.DevMount, As: "x"}, unix.ENOENT},
		{"release", plan.Await{}, nil}, // no host step
		// the child's
		{"pivot", plan.Release{}, nil}, // no child step
		{"become-root", plan.Join{Namespace: "net", FD: "layer"}, unix.EBADF},
		{"become-root", plan.Unshare{Namespace: "none"}, nil},
		{"become-root", plan.EnterGroup{Dir: "/none", FD: "layer"}, unix.EBADF},
		{"pivot", plan.MountFS{Type: "none", Target: "/mnt"}, unix.ENODEV},
		{"pivot", plan.MountFS{Type: "tmpfs", Target: "/mnt", Options: []string{"size=none"}}, unix.EINVAL},
		{"pivot", plan.MountFS{Type: "tmpfs", Target: "/bin/busybox/x"}, unix.ENOTDIR},
		{"pivot", plan.MountFS{Type: "tmpfs", Target: "/" + strings.Repeat("x", 300)}, unix.ENAMETOOLONG},
		{"pivot", plan.Attach{Mount: plan.RootMount, Target: "/mnt"}, unix.ELOOP}, // to itself
		{"mask", plan.Sysctl{Name: "kernel.none", Value: "1"}, unix.ENOENT},
		{"mask", plan.Sysctl{Name: "kernel.msgmax", Value: "much"}, unix.EINVAL},
		{"chdir", plan.Chdir{Dir: "/bin/busybox"}, unix.ENOTDIR},
		{"chdir", plan.Chdir{Dir: "/proc/self/root"}, unix.ELOOP},
		{"chdir", plan.Label{Module: "apparmor", Label: "x"}, nil},
		{"chdir", plan.DropBounding{Keep: []string{"CAP_NONE"}}, nil},
		{"chdir", plan.SetCaps{Caps: []string{"CAP_NONE"}}, nil},
		{"set-user", plan.SetUser{UID: 1 << 20}, unix.EINVAL},
		{"set-user", plan.SetUser{Groups: []uint32{1 << 20}}, unix.EINVAL},
		{"set-caps", plan.SetCaps{}, unix.EPERM}, // then the plan's own asks for them again
		{"chdir", plan.Hostname{Name: strings.Repeat("x", 100)}, unix.EINVAL},
		{"chdir", plan.LowerLimit{Rlimit: spec.Rlimit{Soft: 2, Hard: 1}}, unix.EINVAL},
		{"exec", plan.Seccomp{Program: []plan.Instruction{{Code: 0xffff}}}, unix.EINVAL},
	} {
		step := strings.TrimSuffix(fmt.Sprintf("%T of %.30s", test.step, test.step), "\n")
		in := input(t, "true")
		p := with(t, in, test.before, test.step)
		descriptors, children := openFiles(t), kids(t)
		_, err := launch.Start(p, launch.Env{MakeGroups: func() error { return unix.ENOTTY }})
		quoted := errors.Is(err, unix.EPERM) && strings.HasPrefix(step, "plan.SetCaps") || // by the step that came after
			err != nil && strings.Contains(err.Error(), test.step.String())
		if err == nil || !quoted && !errs.Is(err, errs.Internal) || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s before %s: %v, want %v", step, test.before, err, test.want)
		}
		if now := openFiles(t); !slices.Equal(now, descriptors) {
			t.Errorf("%s: descriptors %v, before %v", step, now, descriptors)
		}
		if now := kids(t); !slices.Equal(now, children) {
			t.Errorf("%s: children %v, before %v", step, now, children)
		}
	}
}

// openFiles lists the descriptors of this process; kids its children.
func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.Contains(to, "/fd") {
			list = append(list, e.Name()+" "+to)
		}
	}
	return list
}

func kids(t *testing.T) []string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		list = append(list, strings.Fields(string(b))...)
	}
	slices.Sort(list)
	return list
}

// TestPlanChecked: a plan that uses what nobody opens is not begun.
func TestPlanChecked(t *testing.T) {
	p := with(t, input(t, "true"), "pivot", plan.Attach{Mount: "nobody's", Target: "/mnt"})
	if _, err := launch.Start(p, launch.Env{}); !errs.Is(err, errs.Internal) {
		t.Errorf("%v", err)
	}
}

// TestMissingTolerated leaves out, as a whole, what the kernel lacks.
func TestMissingTolerated(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "true")
	in.Container.Security.Masked = append(in.Container.Security.Masked, "/none", "/bin/busybox/none")
	in.Container.Security.ReadOnlyPaths = append(in.Container.Security.ReadOnlyPaths, "/none/below", "/bin/busybox/none")
	p := with(t, in, "pivot", plan.MountFS{Type: "none", Target: "/mnt", Options: []string{"a=b", "c"}, Missing: true})
	proc, err := launch.Start(p, launch.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if st, err := proc.Wait(); err != nil || st.Code != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestManyMounts outgrows the first table; long paths come with them.
func TestManyMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "cat /proc/mounts; cat /srv/file")
	long := "/srv" + strings.Repeat("/"+strings.Repeat("d", 200), 19) // below PATH_MAX
	for i := range 200 {
		in.Container.Mounts = append(in.Container.Mounts, spec.Mount{Type: spec.Tmpfs, Target: fmt.Sprintf("/srv/a/b/c/%d", i)})
	}
	in.Container.Mounts = append(in.Container.Mounts, spec.Mount{Type: spec.Tmpfs, Target: long})
	in.Sources = make([]plan.Source, len(in.Container.Mounts))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in.Container.Mounts = append(in.Container.Mounts, spec.Mount{Type: spec.Bind, Source: file, Target: "/srv/file"})
	in.Sources = append(in.Sources, plan.Source{Path: file, File: true})
	out, st := run(t, in)
	if n := strings.Count(out, " /srv/a/b/c/"); st.Code != 0 || n != 200 || !strings.Contains(out, " "+long+" ") || !strings.HasSuffix(out, "content\n") {
		t.Errorf("%+v, %d mounts, the long one: %v", st, n, strings.Contains(out, long))
	}
	in.Container.Mounts = []spec.Mount{{Type: spec.Tmpfs, Target: long + long}}
	in.Sources = in.Sources[:1]
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := launch.Start(p, launch.Env{}); !errors.Is(err, unix.ENAMETOOLONG) || !strings.Contains(err.Error(), "mount a new tmpfs at /srv/") {
		t.Errorf("too long: %.100v", err)
	}
}

// TestStatus waits for ends of every kind.
func TestStatus(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "read x; exit $x")
	in.Container.Process.Stdin = true
	for _, test := range []struct {
		line string
		sig  unix.Signal
		want launch.Status
	}{{"0", 0, launch.Status{}}, {"255", 0, launch.Status{Code: 255}}, {"", unix.SIGKILL, launch.Status{Signal: unix.SIGKILL}}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := decide.Make(in)
		if err != nil {
			t.Fatal(err)
		}
		p.Child = slices.Clone(p.Child)
		for i, s := range p.Child {
			if _, ok := s.(plan.Stdio); ok {
				p.Child[i] = plan.Stdio{In: "in"}
			}
		}
		proc, err := launch.Start(p, launch.Env{Files: map[plan.Handle]*os.File{"in": r}})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if test.sig != 0 {
			err = proc.Signal(test.sig)
		} else {
			_, err = w.WriteString(test.line + "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		st, err := proc.Wait()
		if err != nil || st != test.want {
			t.Errorf("%+v, %v, want %+v", st, err, test.want)
		}
		if err := proc.Signal(0); err != unix.ESRCH {
			t.Errorf("signal after the end: %v", err)
		}
		if _, err := proc.Wait(); err == nil {
			t.Error("waited twice")
		}
		proc.Close()
		w.Close()
	}
}

// TestTerminal gives the container a terminal of its own, of the size that was asked for.
func TestTerminal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "stat -c %n $(readlink /proc/self/fd/0) $(readlink /proc/self/fd/2); stat -c %t:%T -L /dev/ptmx; ps -o tty,args; read x; echo heard $x; exit 3")
	in.Container.Process.Terminal, in.Container.Process.Size = true, &spec.Size{Rows: 33, Columns: 111}
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	descriptors := openFiles(t)
	proc, err := launch.Start(p, launch.Env{})
	if err != nil {
		t.Fatal(err)
	}
	size, err := unix.IoctlGetWinsize(int(proc.Terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row != 33 || size.Col != 111 {
		t.Errorf("size %+v, %v", size, err)
	}
	if _, err := proc.Terminal.WriteString("this\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(proc.Terminal) // until the last one closes the terminal: EIO
	if !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	if st, err := proc.Wait(); err != nil || st.Code != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, want := range []string{"/dev/pts/0\r\n/dev/pts/0\r\n5:2\r\n", "heard this\r\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	proc.Terminal.Close()
	proc.Close()
	if now := openFiles(t); !slices.Equal(now, descriptors) {
		t.Errorf("descriptors %v, before %v", now, descriptors)
	}
	// A start that fails after the terminal was made leaves none.
	p = with(t, in, "chdir", plan.Chdir{Dir: "/bin/busybox"})
	if _, err := launch.Start(p, launch.Env{}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("%v", err)
	}
	if now := openFiles(t); !slices.Equal(now, descriptors) {
		t.Errorf("after a failure: descriptors %v, before %v", now, descriptors)
	}
}

// TestDescriptors hands over what is asked for and nothing else.
func TestDescriptors(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	extra, err := os.Open("/etc/passwd") // one of the host that must not show
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	env := launch.Env{Files: map[plan.Handle]*os.File{}}
	keep := plan.KeepFDs{}
	for i := range 5 {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "file %d\n", i)
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		h := plan.Handle("extra" + strconv.Itoa(i))
		env.Files[h] = f
		keep.FDs = append([]plan.Handle{h}, keep.FDs...) // in the other order, so that they have to change places
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	env.Files["out"] = w
	p, err := decide.Make(input(t, "sh", "-c", "echo -n $(ls /proc/self/fd) ''; cat <&3; cat <&7"))
	if err != nil {
		t.Fatal(err)
	}
	p.Child = slices.Clone(p.Child)
	for i, s := range p.Child {
		switch s.(type) {
		case plan.KeepFDs:
			p.Child[i] = keep
		case plan.Stdio:
			p.Child[i] = plan.Stdio{NoStdin: true, Out: "out"}
		}
	}
	proc, err := launch.Start(p, env)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	w.Close()
	out, _ := io.ReadAll(r)
	if _, err := proc.Wait(); err != nil {
		t.Fatal(err)
	}
	// 8 is the folder that ls reads.
	if want := "0 1 2 3 4 5 6 7 8 file 4\nfile 0\n"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// TestTied ties the container to its launcher, which it sees nothing of, and shifts its
// clocks.
func TestTied(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "cat /proc/self/timens_offsets; echo $(ls /proc/self/fd)")
	in.Host.Tied = true
	in.Container.Namespaces.TimeOffset = map[string]int64{"monotonic": -1_500_000_000, "boottime": 86400_000_000_000}
	out, st := run(t, in)
	want := []string{"monotonic", "-2", "500000000", "boottime", "86400", "0", "0", "1", "2", "3"}
	if got := strings.Fields(out); st.Code != 0 || !slices.Equal(got, want) {
		t.Errorf("%+v, %q, want %q", st, got, want)
	}
}

// TestSeed copies what an image has into a volume, with all that makes a file.
func TestSeed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "true")
	src := filepath.Join(in.Root.Open[0].(plan.CloneMount).Path, "srv/vol")
	shift := func(name string, uid, gid int) error { return os.Lchown(filepath.Join(src, name), uid, gid) }
	xattr := "user.color"
	err := errors.Join(
		os.MkdirAll(filepath.Join(src, "sub"), 0o755),
		os.WriteFile(filepath.Join(src, "file"), []byte("content\n"), 0o600),
		os.Link(filepath.Join(src, "file"), filepath.Join(src, "sub/again")),
		os.Symlink("/etc/passwd", filepath.Join(src, "link")),
		unix.Mkfifo(filepath.Join(src, "fifo"), 0o640),
		unix.Mknod(filepath.Join(src, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		shift("file", 5, 6), shift("link", 7, 8), shift("sub", 1000, 1000), shift("", 9, 9),
		os.Chmod(filepath.Join(src, "file"), 0o750|os.ModeSetuid),
		os.Chmod(filepath.Join(src, "sub"), 0o1777|os.ModeSticky),
		os.Chmod(src, 0o2770|os.ModeSetgid),
		unix.Setxattr(filepath.Join(src, "file"), xattr, []byte("red"), 0),
		os.Chtimes(filepath.Join(src, "file"), testTime, testTime),
	)
	if err != nil {
		t.Fatal(err)
	}
	vol := t.TempDir()
	in.Container.Mounts = []spec.Mount{{Type: spec.Volume, Source: "vol", Target: "/srv/vol"}}
	in.Sources = []plan.Source{{Path: vol, Seed: true}}
	var told []string
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := launch.Start(p, launch.Env{Seeded: func(v string, copied bool) error {
		told = append(told, fmt.Sprint(v, copied))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = proc.Wait()
	proc.Close()
	if !slices.Equal(told, []string{"voltrue"}) {
		t.Errorf("told %v", told)
	}
	// Owners on the disk are unshifted, and so are those of the image.
	for name, want := range map[string]string{
		"": "drwxrws--- 9:9", "file": "-rwsr-x--- 5:6", "sub/again": "-rwsr-x--- 5:6", "sub": "drwxrwxrwt 1000:1000",
		"link": "lrwxrwxrwx 7:8", "fifo": "prw-r----- 0:0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(vol, name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprintf("%s %d:%d", modeWords(st.Mode), st.Uid, st.Gid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if name == "file" && (st.Nlink != 2 || st.Mtim.Sec != testTime.Unix()) {
			t.Errorf("file: %d links, time %d", st.Nlink, st.Mtim.Sec)
		}
	}
	if _, err := os.Lstat(filepath.Join(vol, "device")); err == nil {
		t.Error("a device was copied")
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(vol, "file"), xattr, value); err != nil || string(value[:n]) != "red" {
		t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
	}
	if b, _ := os.ReadFile(filepath.Join(vol, "sub/again")); string(b) != "content\n" {
		t.Errorf("content %q", b)
	}

	// Where the image has nothing, or no folder, there is nothing to copy.
	for _, target := range []string{"/none", "/bin/busybox", "/srv/vol/link"} {
		told = nil
		p := with(t, input(t, "true"), "release", plan.Seed{From: plan.RootMount, Target: target, To: "layer", Volume: "v"})
		proc, err := launch.Start(p, launch.Env{Seeded: func(v string, copied bool) error {
			told = append(told, fmt.Sprint(v, copied))
			return nil
		}})
		if err != nil || !slices.Equal(told, []string{"vfalse"}) {
			t.Errorf("%s: %v, told %v", target, err, told)
			continue
		}
		_, _ = proc.Wait()
		proc.Close()
	}
	// Who is told may refuse.
	p = with(t, input(t, "true"), "release", plan.Seed{From: plan.RootMount, Target: "/none", To: "layer", Volume: "v"})
	if _, err := launch.Start(p, launch.Env{Seeded: func(string, bool) error { return unix.EIO }}); !errors.Is(err, unix.EIO) {
		t.Errorf("refused: %v", err)
	}
}

// testTime is a modification time long ago.
var testTime = time.Unix(1_000_000_000, 0)

// modeWords writes a mode as ls does.
func modeWords(mode uint32) string {
	b := []byte("-rwxrwxrwx")
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	b[0] = map[uint32]byte{unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p', unix.S_IFREG: '-'}[mode&unix.S_IFMT]
	if mode&unix.S_ISUID != 0 {
		b[3] = 's'
	}
	if mode&unix.S_ISGID != 0 {
		b[6] = 's'
	}
	if mode&unix.S_ISVTX != 0 {
		b[9] = 't'
	}
	return string(b)
}

// The score of a container is not its launcher's, though they share their memory when it is set.
func TestOOMScoreIsTheContainersAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	own := func() string {
		t.Helper()
		b, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before, score := own(), 321
	in := input(t, "cat", "/proc/self/oom_score_adj")
	in.Container.Process.OOMScore = &score
	if out, st := run(t, in); out != "321\n" || st.Code != 0 {
		t.Errorf("status %+v, score %q", st, out)
	}
	if got := own(); got != before {
		t.Errorf("the launcher has %q, and had %q", got, before)
	}
	in = input(t, "none")
	in.Container.Process.OOMScore = &score
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := launch.Start(p, launch.Env{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("start: %v", err)
	}
	if got := own(); got != before {
		t.Errorf("after a failure the launcher has %q, and had %q", got, before)
	}
}
