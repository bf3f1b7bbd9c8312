package content

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/rootfs"
)

// box is a container on a plain directory tree: base, and a layer of its own.
type box struct {
	base, layer string
	parts       plan.Root
}

// files is a tree for people: a path that ends with "/" is a directory, "-> TARGET" makes a
// symlink, anything else is content.
type files map[string]string

func (f files) make(t *testing.T, dir string) {
	t.Helper()
	for p, text := range f {
		p := filepath.Join(dir, p) + strings.Repeat("/", strings.Count(p[len(p)-1:], "/"))
		ok(t, os.MkdirAll(filepath.Dir(p), 0o755))
		to, link := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(p, "/"):
			ok(t, os.MkdirAll(p, 0o755))
		case link:
			ok(t, os.Symlink(to, p))
		default:
			ok(t, os.WriteFile(p, []byte(text), 0o644))
		}
	}
}

// show is the inverse of make.
func show(t *testing.T, dir string) files {
	t.Helper()
	f := files{}
	ok(t, filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil || p == dir {
			return err
		}
		name := p[len(dir)+1:]
		switch {
		case info.IsDir():
			f[name+"/"] = ""
		case info.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(p)
			f[name] = "-> " + to
			return err
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			f[name] = string(b)
			return err
		default:
			f[name] = info.Mode().Type().String()
		}
		return nil
	}))
	return f
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBox(t *testing.T, f files) box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount overlays")
	}
	b := box{base: filepath.Join(t.TempDir(), "base"), layer: t.TempDir()}
	ok(t, os.Mkdir(b.base, 0o755))
	for _, d := range []string{"upper", "work"} {
		ok(t, os.Mkdir(filepath.Join(b.layer, d), 0o755))
	}
	f.make(t, b.base)
	b.parts = rootfs.Directory(b.base, rootfs.Layer{Dir: b.layer})
	return b
}

func (b box) open(t *testing.T, write bool, mounts ...Mount) *Root {
	t.Helper()
	r, err := OpenRoot(Container{Name: "box", Parts: b.parts, Mounts: mounts}, write)
	ok(t, err)
	t.Cleanup(r.Close)
	return r
}

// change does something in the container as if that did it.
func (b box) change(t *testing.T, script string) {
	t.Helper()
	r := b.open(t, true)
	null, err := os.Open(os.DevNull)
	ok(t, err)
	defer null.Close()
	var out []byte
	ok(t, r.do(func() error { // the thread's mounts are the shell's
		cmd := exec.Command("sh", "-ec", "cd /proc/self/fd/3; "+script)
		cmd.Stdin = null
		cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(dup(t, r.fd)), "root")}
		defer cmd.ExtraFiles[0].Close()
		out, err = cmd.CombinedOutput()
		return nil
	}))
	if err != nil {
		t.Fatalf("%s: %v %s", script, err, out)
	}
}

func dup(t testing.TB, fd int) int {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	ok(t, err)
	return d
}

// The table of docker cp's manual, both ways.
func TestCopyTable(t *testing.T) {
	src := files{"file": "F", "dir/a": "A", "dir/sub/b": "B", "link": "-> file", "dirlink": "-> dir", "dangling": "-> nowhere"}
	dst := files{"old": "O", "into/": "", "into/keep": "K", "tofile": "-> old", "todir": "-> into", "todangling": "-> fresh"}
	for _, x := range []struct {
		src, dst string
		want     files // besides dst, or in its place
		gone     []string
		kind     errs.Kind
	}{
		{src: "file", dst: "new", want: files{"new": "F"}},
		{src: "file", dst: "new/", kind: errs.NotFound},
		{src: "file", dst: "no/new", kind: errs.NotFound},
		{src: "file", dst: "old", want: files{"old": "F"}},
		{src: "file", dst: "old/", kind: errs.NotFound},
		{src: "file", dst: "into", want: files{"into/file": "F"}},
		{src: "file", dst: "into/", want: files{"into/file": "F"}},
		{src: "file", dst: "tofile", want: files{"old": "F"}},
		{src: "file", dst: "todir", want: files{"into/file": "F"}},
		{src: "file", dst: "todangling", want: files{"fresh": "F"}},
		{src: "file/", dst: "new", kind: errs.Other},
		{src: "file", dst: ".", want: files{"file": "F"}},
		{src: "dir", dst: "new", want: files{"new/": "", "new/a": "A", "new/sub/": "", "new/sub/b": "B"}},
		{src: "dir", dst: "new/", want: files{"new/": "", "new/a": "A", "new/sub/": "", "new/sub/b": "B"}},
		{src: "dir/.", dst: "new", want: files{"new/": "", "new/a": "A", "new/sub/": "", "new/sub/b": "B"}},
		{src: "dir", dst: "old", kind: errs.Exists},
		{src: "dir", dst: "into", want: files{"into/dir/": "", "into/dir/a": "A", "into/dir/sub/": "", "into/dir/sub/b": "B"}},
		{src: "dir/.", dst: "into", want: files{"into/a": "A", "into/sub/": "", "into/sub/b": "B"}},
		{src: "dir/.", dst: "todir", want: files{"into/a": "A", "into/sub/": "", "into/sub/b": "B"}},
		{src: "dir/sub/..", dst: "into", want: files{"into/dir/": "", "into/dir/a": "A", "into/dir/sub/": "", "into/dir/sub/b": "B"}},
		{src: "link", dst: "new", want: files{"new": "-> file"}},
		{src: "dangling", dst: "new", want: files{"new": "-> nowhere"}},
		{src: "dirlink", dst: "new", want: files{"new": "-> dir"}},
		{src: "dirlink/.", dst: "into", want: files{"into/a": "A", "into/sub/": "", "into/sub/b": "B"}},
		{src: "-L link", dst: "new", want: files{"new": "F"}},
		{src: "-L dirlink", dst: "into", want: files{"into/dirlink/": "", "into/dirlink/a": "A", "into/dirlink/sub/": "", "into/dirlink/sub/b": "B"}},
		{src: "-L dangling", dst: "new", kind: errs.NotFound},
		{src: "nothing", dst: "new", kind: errs.NotFound},
	} {
		want := files{}
		for _, f := range []files{{"into/": ""}, dst, x.want} {
			for k, v := range f {
				want[k] = v
			}
		}
		name, follow := strings.CutPrefix(x.src, "-L ")
		opt := Options{Follow: follow}
		check := func(t *testing.T, err error, dir string) {
			t.Helper()
			if failed := x.want == nil; failed != (err != nil) || failed && x.kind != errs.Other && !errs.Is(err, x.kind) {
				t.Fatalf("%v, want kind %v", err, x.kind)
			}
			if got := show(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		}
		t.Run("out/"+x.src+" "+x.dst, func(t *testing.T) {
			b, dir := newBox(t, src), t.TempDir()
			dst.make(t, dir)
			to := dir + "/" + x.dst
			_, err := b.open(t, false).Out(context.Background(), "/"+name, to, opt)
			check(t, err, dir)
		})
		t.Run("in/"+x.src+" "+x.dst, func(t *testing.T) {
			inBox := files{}
			for k, v := range dst {
				inBox["w/"+k] = v
			}
			b, dir, out := newBox(t, inBox), t.TempDir(), t.TempDir()
			src.make(t, dir)
			r := b.open(t, true)
			_, err := r.In(context.Background(), dir+"/"+name, "w/"+x.dst, opt)
			_, outErr := r.Out(context.Background(), "w/.", out, Options{})
			ok(t, outErr)
			check(t, err, out)
		})
	}
}

// What is in the way is replaced, but a directory never by something else, nor the other way
// round, and a symlink is not followed.
func TestInTheWay(t *testing.T) {
	for _, x := range []struct{ src, dst, want string }{
		{"x", "old", "x"},
		{"x", "-> elsewhere", "x"},
		{"-> there", "old", "-> there"},
		{"-> there", "-> here", "-> there"},
	} {
		b, dir := newBox(t, files{"d/f": x.src}), t.TempDir()
		files{"d/f": x.dst, "elsewhere": "E"}.make(t, dir)
		_, err := b.open(t, false).Out(context.Background(), "d", dir, Options{})
		if got := show(t, dir); err != nil || got["d/f"] != x.want || got["elsewhere"] != "E" {
			t.Errorf("%q over %q: %v, %v", x.src, x.dst, got, err)
		}
	}
	for _, f := range [][2]files{
		{{"d/f": "x"}, {"d/f/": ""}},
		{{"d/f/": ""}, {"d/f": "x"}},
		{{"d/f/": "", "d/f/x": "x"}, {"d/f": "-> ../t", "t/": ""}},
	} {
		b, dir := newBox(t, f[0]), t.TempDir()
		f[1].make(t, dir)
		_, err := b.open(t, false).Out(context.Background(), "d", dir, Options{})
		if !errs.Is(err, errs.Exists) || errs.HintOf(err) == "" {
			t.Errorf("%v over %v: %v", f[0], f[1], err)
		}
		if got := show(t, dir); got["t/x"] != "" {
			t.Errorf("written through a symlink: %v", got)
		}
	}
}

// Sparse files stay sparse, hard links linked; attributes, modes, times and, with archive,
// owners are kept. Without it nothing gets the rights of another.
func TestMetadata(t *testing.T) {
	b := newBox(t, files{"d/f": "content", "d/sub/": ""})
	b.change(t, `ln d/f d/sub/again; truncate -s 100M d/holes; echo end >> d/holes
		setfattr -n user.colour -v red d/f; setcap cap_net_raw+ep d/f; chown 7:8 d/f; chmod 6751 d/f; setcap cap_net_raw+ep d/f
		chmod 2750 d/sub; mkfifo d/fifo; chown -h 9:9 d/fifo; touch -d '2001-02-03 04:05:06' d/f d/sub d`)
	for _, archive := range []bool{true, false} {
		dir := t.TempDir()
		n, err := b.open(t, false).Out(context.Background(), "/d", dir, Options{Archive: archive})
		if want := int64(100<<20 + 4 + 7); err != nil || n != want {
			t.Fatalf("%d bytes, %v; want %d", n, err, want)
		}
		var f, again, holes, sub, fifo unix.Stat_t
		for name, st := range map[string]*unix.Stat_t{"f": &f, "sub/again": &again, "holes": &holes, "sub": &sub, "fifo": &fifo} {
			ok(t, unix.Lstat(dir+"/d/"+name, st))
		}
		if f.Ino != again.Ino || holes.Blocks*512 > 1<<20 || fifo.Mode&unix.S_IFMT != unix.S_IFIFO {
			t.Errorf("inodes %d %d, %d bytes of holes, fifo %o", f.Ino, again.Ino, holes.Blocks*512, fifo.Mode)
		}
		for _, st := range []unix.Stat_t{f, sub} {
			if st.Mtim.Sec != 981173106 {
				t.Errorf("time %d", st.Mtim.Sec)
			}
		}
		caps, _ := unix.Getxattr(dir+"/d/f", capability, nil)
		colour, _ := unix.Getxattr(dir+"/d/f", "user.colour", nil)
		want := []any{uint32(0o100751), uint32(os.Getuid()), 0, 3, uint32(os.Getuid())}
		if archive {
			want = []any{uint32(0o106751), uint32(7), 20, 3, uint32(9)}
		}
		if got := []any{f.Mode, f.Uid, max(caps, 0), colour, fifo.Uid}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("archive %v: mode, owner, capabilities, attribute, owner of FIFO: %v, want %v", archive, got, want)
		}
	}
}

// A tar goes into a container by the ways of the container.
func TestTar(t *testing.T) {
	b := newBox(t, files{"usr/lib/": "", "lib": "-> usr/lib", "abs": "-> /usr", "up": "-> ../../../../../usr", "d/": ""})
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "lib/one", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "/abs/lib/two", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "./up/three", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "made/on/the/way", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "d/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666, Uid: 4},
		{Name: "d/two", Typeflag: tar.TypeLink, Linkname: "abs/lib/two"},
	} {
		ok(t, w.WriteHeader(h))
		_, err := io.CopyN(w, strings.NewReader("abc"), h.Size)
		ok(t, err)
	}
	ok(t, w.Close())
	r := b.open(t, true)
	_, err := r.InTar(context.Background(), bytes.NewReader(buf.Bytes()), "/", Options{Archive: true})
	ok(t, err)
	var out bytes.Buffer
	_, err = r.OutTar(context.Background(), "/.", &out, Options{})
	ok(t, err)
	got := list1(t, &out)
	want := "./ abs@ d/ d/null d/two lib@ made/ made/on/ made/on/the/ made/on/the/way up@ usr/ usr/lib/ usr/lib/one usr/lib/two usr/three"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{"../x", "d/../../x", "x\x00y"} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		ok(t, w.WriteHeader(&tar.Header{Name: "good", Typeflag: tar.TypeReg}))
		if w.WriteHeader(&tar.Header{Name: bad, Typeflag: tar.TypeReg}) != nil {
			continue // not even a tar can say it
		}
		ok(t, w.Close())
		if _, err := r.InTar(context.Background(), &buf, "/d", Options{}); err == nil {
			t.Errorf("%q was unpacked", bad)
		}
	}
	if _, err := r.InTar(context.Background(), bytes.NewReader([]byte{0x1f, 0x8b, 8, 0}), "/d", Options{}); errs.HintOf(err) == "" {
		t.Errorf("a compressed tar: %v", err)
	}
	if _, err := r.InTar(context.Background(), &buf, "/no", Options{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("into nothing: %v", err)
	}
}

func list1(t *testing.T, r io.Reader) string {
	t.Helper()
	var names []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			slices.Sort(names)
			return strings.Join(names, " ")
		}
		ok(t, err)
		if h.Typeflag == tar.TypeSymlink {
			h.Name += "@"
		}
		names = append(names, h.Name)
	}
}

// Volumes of a container that does not run are where it has them, read-only ones read-only,
// and the host's mount table does not show any of it.
func TestMounts(t *testing.T) {
	b := newBox(t, files{"vol/": "", "vol/below": "hidden", "ro/": "", "file": "image's"})
	vol, ro, file := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "file")
	files{"v": "V"}.make(t, vol)
	files{"r": "R"}.make(t, ro)
	ok(t, os.WriteFile(file, []byte("host's"), 0o644))
	r := b.open(t, true, Mount{Source: vol, Target: "/vol"}, Mount{Source: ro, Target: "/ro", ReadOnly: true},
		Mount{Source: file, Target: "/file"}, Mount{Source: "/no/such", Target: "/vol"}, Mount{Source: vol, Target: "/not/there"})
	table, err := os.ReadFile("/proc/self/mountinfo")
	ok(t, err)
	if strings.Contains(string(table), vol) || strings.Contains(string(table), b.layer) {
		t.Error("the host's mount table shows it")
	}
	dir := t.TempDir()
	_, err = r.Out(context.Background(), "/.", dir, Options{})
	ok(t, err)
	if got, want := show(t, dir), (files{"vol/": "", "vol/v": "V", "ro/": "", "ro/r": "R", "file": "host's", "not/": "", "not/there/": "", "not/there/v": "V"}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	src := filepath.Join(dir, "vol/v")
	for dst, fine := range map[string]bool{"/vol/new": true, "/ro/new": false, "/file": true} {
		if _, err := r.In(context.Background(), src, dst, Options{}); (err == nil) != fine {
			t.Errorf("%s: %v", dst, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "V" {
		t.Errorf("the mounted file is %q, %v", b, err)
	}
	if _, err := os.Stat(vol + "/new"); err != nil {
		t.Error(err)
	}
	if got := show(t, b.layer+"/upper"); fmt.Sprint(got) != fmt.Sprint(files{"not/": "", "not/there/": ""}) { // a place for the mount
		t.Errorf("in the layer: %v", got)
	}
}

// TestMain runs the tests or, as the process of a hostile container, swaps.
func TestMain(m *testing.M) {
	if root := os.Getenv("CORTEN_TEST_ROOT"); root != "" {
		if err := unix.Chroot(root); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		swap(strings.Fields(os.Getenv("CORTEN_TEST_SWAP")))
	}
	os.Exit(m.Run())
}

// swap exchanges pairs of names, one pair after the other, until it is killed.
func swap(names []string) {
	if len(names) == 0 {
		for {
			time.Sleep(time.Hour)
		}
	}
	for i := 0; ; i += 2 {
		i %= len(names)
		_ = unix.Renameat2(unix.AT_FDCWD, names[i], unix.AT_FDCWD, names[i+1], unix.RENAME_EXCHANGE)
	}
}

// A container that swaps directories and files for symlinks, FIFOs and devices while they are
// copied leads nobody out, and nobody waits for it.
func TestRaces(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 100
	}
	outside := t.TempDir()
	files{"secret": "SECRET", "d/f": "SECRET", "d/sub/g": "SECRET"}.make(t, outside)
	before := fmt.Sprint(show(t, outside))
	root := t.TempDir() // of a running container that shares our file systems
	up := strings.Repeat("../", 30)
	files{
		"d/f": "fine", "d/sub/g": "fine", "e": "-> " + outside + "/d",
		"d/x1": "fine", "d/x2": "-> " + outside + "/secret",
		"d/sub2/": "", "d/sub3": "-> " + up + outside[1:] + "/d/sub",
		"d/p1": "fine", "d/n1": "fine",
	}.make(t, root)
	ok(t, unix.Mkfifo(root+"/d/p2", 0o666))
	ok(t, unix.Mknod(root+"/d/n2", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 1))))
	r := running(t, root, "/d /e /d/x1 /d/x2 /d/sub2 /d/sub3 /d/p1 /d/p2 /d/n1 /d/n2")
	ctx, dst := context.Background(), t.TempDir()
	src := filepath.Join(t.TempDir(), "new")
	ok(t, os.MkdirAll(src+"/sub2/deep", 0o755))
	ok(t, os.WriteFile(src+"/sub2/deep/file", []byte("mine"), 0o644))
	var pack bytes.Buffer
	w := tar.NewWriter(&pack)
	ok(t, w.WriteHeader(&tar.Header{Name: "d/sub2/from-tar", Typeflag: tar.TypeReg, Mode: 0o644}))
	ok(t, w.Close())
	went := 0
	for i := range rounds {
		to := filepath.Join(dst, strconv.Itoa(i))
		for _, f := range []func() error{
			func() error { _, err := r.Out(ctx, "/d/.", to, Options{}); return err },
			func() error { _, err := r.Out(ctx, "/d/f", to+"f", Options{Follow: true}); return err },
			func() error { _, err := r.OutTar(ctx, "/d/x1", io.Discard, Options{Follow: true}); return err },
			func() error { _, err := r.In(ctx, src+"/.", "/d", Options{}); return err },
			func() error { _, err := r.In(ctx, src+"/sub2/deep/file", "/d/sub2/new", Options{}); return err },
			func() error { _, err := r.InTar(ctx, bytes.NewReader(pack.Bytes()), "/", Options{}); return err },
		} {
			if f() == nil {
				went++
			}
		}
		ok(t, filepath.WalkDir(dst, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if b, _ := os.ReadFile(p); strings.Contains(string(b), "SECRET") {
					t.Fatalf("round %d: %s came from outside", i, p)
				}
			}
			return err
		}))
		ok(t, os.RemoveAll(to))
		ok(t, os.RemoveAll(to+"f"))
	}
	if after := fmt.Sprint(show(t, outside)); after != before {
		t.Errorf("outside is now %s", after)
	}
	t.Logf("%d of %d copies were made", went, 6*rounds)
	if went == 0 {
		t.Error("nothing was tried")
	}
}

// running is a process that has root as its root and users of its own, of which the host's
// 100000 is its root. It swaps files, or sleeps.
func running(t *testing.T, root, pairs string) *Root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for p := root; p != "/"; p = filepath.Dir(p) { // its users have to get there
		info, err := os.Stat(p)
		ok(t, err)
		ok(t, os.Chmod(p, info.Mode()|0o011))
	}
	ok(t, filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Lchown(p, 100_000, 100_000)
		}
		return err
	}))
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100_000, Size: 65_536}}
	fd := -1
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"CORTEN_TEST_ROOT=" + root, "CORTEN_TEST_SWAP=" + pairs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, Credential: &syscall.Credential{NoSetGroups: true}, UidMappings: ids, GidMappings: ids,
		Pdeathsig: unix.SIGKILL, PidFD: &fd}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { pidfd.Close() })
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	ok(t, err)
	r, err := OpenRoot(Container{Name: "box", Process: pidfd, PID: cmd.Process.Pid}, true)
	ok(t, err)
	t.Cleanup(r.Close)
	return r
}

// Owners of a container that runs are translated both ways.
func TestOwners(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	files{"f": "x", "g": "y", "h": "z"}.make(t, root)
	r := running(t, root, "")
	ok(t, os.Chown(root+"/f", 101_000, 101_001))
	ok(t, os.Chown(root+"/g", 4, 4)) // nobody the container knows
	var buf bytes.Buffer
	_, err := r.OutTar(context.Background(), "/.", &buf, Options{})
	ok(t, err)
	tr, got := tar.NewReader(&buf), map[string][2]int{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		ok(t, err)
		got[h.Name] = [2]int{h.Uid, h.Gid}
	}
	if got["f"] != [2]int{1000, 1001} || got["g"] != [2]int{overflow, overflow} || got["h"] != [2]int{} {
		t.Error(got)
	}
	files{"new": "N"}.make(t, dir)
	ok(t, os.Chown(dir+"/new", 33, 34))
	for archive, want := range map[bool][2]uint32{true: {100_033, 100_034}, false: {100_000, 100_000}} {
		_, err := r.In(context.Background(), dir+"/new", "/new", Options{Archive: archive})
		ok(t, err)
		var st unix.Stat_t
		ok(t, unix.Stat(root+"/new", &st))
		if [2]uint32{st.Uid, st.Gid} != want {
			t.Errorf("archive %v: %d:%d, want %v", archive, st.Uid, st.Gid, want)
		}
	}
	ok(t, os.Chown(dir+"/new", 70_000, 0))
	if _, err := r.In(context.Background(), dir+"/new", "/new", Options{Archive: true}); errs.HintOf(err) == "" {
		t.Errorf("an owner that the container cannot have: %v", err)
	}
}
