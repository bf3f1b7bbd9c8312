package dirtree

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func asRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for owners and devices")
	}
}

// objects is a directory of contents, opened by digest.
type objects string

func (o objects) put(t testing.TB, b []byte) oci.Digest {
	t.Helper()
	d := oci.FromBytes(b)
	f, err := os.OpenFile(filepath.Join(string(o), d.Hex()), os.O_WRONLY|os.O_CREATE, 0o444)
	ok(t, err)
	defer f.Close()
	ok(t, disk.WriteSparse(f, b, 0))
	ok(t, f.Truncate(int64(len(b))))
	return d
}

func (o objects) open(d oci.Digest) (*os.File, error) {
	return os.Open(filepath.Join(string(o), d.Hex()))
}

// capNetBind is the capability cap_net_bind_service=ep: capabilities(7), version 2.
var capNetBind = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// sample is a tree with files of every type, each in a state that some order of calls
// would spoil, and what to expect of it.
func sample(t testing.TB, o objects) (*tree.Tree, map[string]string) {
	sparse := make([]byte, 4<<20)
	sparse[2<<20] = 1
	x := func(pairs ...string) (list []tree.Xattr) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, tree.Xattr{Name: pairs[i], Value: []byte(pairs[i+1])})
		}
		return list
	}
	long := strings.Repeat("n", 255)
	entries := []tree.Entry{
		{Type: tree.Dir, Mode: 0o751, UID: 1, GID: 2, MTime: 1e9, NSec: 5},
		{Path: "a-link", Type: tree.Hardlink, Link: "z/file"}, // its target comes later
		{Path: "block", Type: tree.Block, Mode: 0o660, GID: 6, Major: 8, Minor: 300, MTime: 3},
		{Path: "char", Type: tree.Char, Mode: 0o666, Major: 1, Minor: 3, MTime: 4, Xattrs: x("trusted.t", "1", "user.u", "dropped")},
		{Path: "fifo", Type: tree.Fifo, Mode: 0o600, UID: 5, MTime: -5},
		{Path: "readonly", Type: tree.Dir, Mode: 0o500, UID: 7, GID: 7, MTime: 7},
		{Path: "readonly/sub", Type: tree.Dir, Mode: 0o3777, UID: 8, GID: 8, MTime: 8, Xattrs: x("user.dir", "d")},
		{Path: "readonly/sub/" + long, Type: tree.Regular, Mode: 0o400, MTime: 9, Size: 6, Inline: []byte("inline")},
		{Path: "socket", Type: tree.Socket, Mode: 0o755, MTime: 10},
		{Path: "sparse", Type: tree.Regular, Mode: 0o644, MTime: 11, Size: int64(len(sparse)), Object: o.put(t, sparse)},
		{Path: "symlink", Type: tree.Symlink, Link: "/etc/../nowhere", Mode: 0o777, UID: 12, GID: 12, MTime: 12, NSec: 999999999, Xattrs: x("com.apple.x", "dropped", "trusted.s", "2")},
		{Path: "z", Type: tree.Dir, Mode: 0o755, MTime: 13},
		{Path: "z/empty", Type: tree.Regular, Mode: 0, MTime: 14},
		{Path: "z/file", Type: tree.Regular, Mode: 0o6755, UID: 15, GID: 16, MTime: 15, NSec: 1, Size: 3, Object: o.put(t, []byte("abc")),
			Xattrs: x("security.capability", string(capNetBind), "user.x", "y")},
		{Path: "z/other", Type: tree.Hardlink, Link: "z/file"},
		{Path: "z/symlink-too", Type: tree.Hardlink, Link: "symlink"},
	}
	abc := fmt.Sprintf("ugrwxr-xr-x 15:16 15.000000001 3 links, bytes %s, security.capability=%q user.x=\"y\"", oci.FromBytes([]byte("abc")).Short(), capNetBind)
	link := `Lrwxrwxrwx 12:12 12.999999999 2 links, to /etc/../nowhere, trusted.s="2"`
	return &tree.Tree{Entries: entries}, map[string]string{
		".":                    "drwxr-x--x 1:2 1000000000.000000005",
		"a-link":               abc,
		"block":                "Drw-rw---- 0:6 3.000000000 1 links, device 8:300",
		"char":                 `Dcrw-rw-rw- 0:0 4.000000000 1 links, device 1:3, trusted.t="1"`,
		"fifo":                 "prw------- 5:0 -5.000000000 1 links",
		"readonly":             "dr-x------ 7:7 7.000000000",
		"readonly/sub":         `dgtrwxrwxrwx 8:8 8.000000000, user.dir="d"`,
		"readonly/sub/" + long: "-r-------- 0:0 9.000000000 1 links, bytes " + oci.FromBytes([]byte("inline")).Short(),
		"socket":               "Srwxr-xr-x 0:0 10.000000000 1 links",
		"sparse":               "-rw-r--r-- 0:0 11.000000000 1 links, bytes " + oci.FromBytes(sparse).Short(),
		"symlink":              link,
		"z":                    "drwxr-xr-x 0:0 13.000000000",
		"z/empty":              "---------- 0:0 14.000000000 1 links, bytes " + oci.FromBytes(nil).Short(),
		"z/file":               abc,
		"z/other":              abc,
		"z/symlink-too":        link,
	}
}

// facts lists what can be seen of the files in dir.
func facts(t testing.TB, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	ok(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		ok(t, err)
		info, err := d.Info()
		ok(t, err)
		st := info.Sys().(*syscall.Stat_t)
		f := fmt.Sprintf("%v %d:%d %d.%09d", info.Mode(), st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if !d.IsDir() {
			f += fmt.Sprintf(" %d links", st.Nlink)
		}
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			ok(t, err)
			f += ", bytes " + oci.FromBytes(b).Short()
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			ok(t, err)
			f += ", to " + to
		case info.Mode()&fs.ModeDevice != 0:
			f += fmt.Sprintf(", device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if x := xattrs(t, path); x != "" {
			f += ", " + x
		}
		name, err := filepath.Rel(dir, path)
		ok(t, err)
		seen[name] = f
		return nil
	}))
	return seen
}

func xattrs(t testing.TB, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	ok(t, err)
	var list []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		ok(t, err)
		list = append(list, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestWrite(t *testing.T) {
	asRoot(t)
	o := objects(t.TempDir())
	tr, want := sample(t, o)
	for range 2 {
		dir := t.TempDir()
		info, err := Write(tr, dir, o.open, Options{})
		ok(t, err)
		if info.Dropped != 2 {
			t.Errorf("dropped %d attributes", info.Dropped)
		}
		if diff := cmp.Diff(want, facts(t, dir)); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
		var st unix.Stat_t
		ok(t, unix.Stat(dir+"/sparse", &st))
		if st.Blocks*512 > 64<<10 {
			t.Errorf("the sparse file takes %d bytes", st.Blocks*512)
		}
	}
}

// TestRefused writes trees that no merge would make: an error, and nothing outside.
func TestRefused(t *testing.T) {
	asRoot(t)
	o := objects(t.TempDir())
	abc := o.put(t, []byte("abc"))
	root := tree.Entry{Type: tree.Dir, Mode: 0o755}
	outside := t.TempDir()
	for name, entries := range map[string][]tree.Entry{
		"empty":               {},
		"no root":             {{Path: "a", Type: tree.Dir}},
		"no parent":           {root, {Path: "a/b", Type: tree.Regular}},
		"parent is a symlink": {root, {Path: "a", Type: tree.Symlink, Link: outside}, {Path: "a/b", Type: tree.Regular}},
		"parent leads inside": {root, {Path: "d", Type: tree.Dir}, {Path: "e", Type: tree.Symlink, Link: "d"}, {Path: "e/b", Type: tree.Regular}},
		"dots":                {root, {Path: "../../" + outside + "/b", Type: tree.Regular}},
		"absolute":            {root, {Path: outside + "/b", Type: tree.Regular}},
		"twice":               {root, {Path: "a", Type: tree.Regular}, {Path: "a", Type: tree.Regular}},
		"through a symlink":   {root, {Path: "a", Type: tree.Symlink, Link: outside + "/b"}, {Path: "a", Type: tree.Regular}},
		"whiteout":            {root, {Path: "a", Type: tree.Whiteout}},
		"link to nothing":     {root, {Path: "a", Type: tree.Hardlink, Link: "b"}},
		"link out":            {root, {Path: "a", Type: tree.Hardlink, Link: "../../../../etc/passwd"}},
		"link through":        {root, {Path: "a", Type: tree.Symlink, Link: "/etc"}, {Path: "b", Type: tree.Hardlink, Link: "a/passwd"}},
		"link to a directory": {root, {Path: "a", Type: tree.Dir}, {Path: "b", Type: tree.Hardlink, Link: "a"}},
		"owner nobody":        {root, {Path: "a", Type: tree.Regular, UID: 1<<32 - 1}},
		"object missing":      {root, {Path: "a", Type: tree.Regular, Size: 1, Object: oci.FromBytes(nil)}},
		"object short":        {root, {Path: "a", Type: tree.Regular, Size: 4, Object: abc}},
	} {
		_, err := Write(&tree.Tree{Entries: entries}, t.TempDir(), o.open, Options{})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if name == "object short" && (!errs.Is(err, errs.Corrupt) || errs.HintOf(err) == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
}

const aloneIn = "CORTEN_TEST_ALONE"

// alone runs the rest of the calling test in a mount namespace of its own, in a copy of the
// test binary: mounts made there end with it.
func alone(t *testing.T) (inside bool) {
	t.Helper()
	asRoot(t)
	if os.Getenv(aloneIn) == t.Name() {
		ok(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		return true
	}
	self, err := os.Executable()
	ok(t, err)
	child := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), aloneIn+"="+t.Name())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
	return false
}

// TestOverlay mounts an overlay over a tree whose layer tries to give it orders.
func TestOverlay(t *testing.T) {
	if !alone(t) {
		return
	}
	o := objects(t.TempDir())
	xs := func(pairs ...string) (list []tree.Xattr) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, tree.Xattr{Name: pairs[i], Value: []byte(pairs[i+1])})
		}
		return list
	}
	abc := o.put(t, []byte("abc"))
	dir := func(path string, x ...string) tree.Entry {
		return tree.Entry{Path: path, Type: tree.Dir, Mode: 0o755, Xattrs: xs(x...)}
	}
	file := func(path string, x ...string) tree.Entry {
		return tree.Entry{Path: path, Type: tree.Regular, Mode: 0o644, Size: 3, Object: abc, Xattrs: xs(x...)}
	}
	for _, c := range []struct {
		name, options string
		opt           Options
		space         string
	}{{"trusted", "", Options{}, "trusted"}, {"user", "userxattr,", Options{UserXattr: true}, "user"}} {
		t.Run(c.name, func(t *testing.T) {
			tr := &tree.Tree{Entries: []tree.Entry{
				dir(""),
				dir("d", c.space+".overlay.opaque", "y", c.space+".overlay.redirect", "/secret"), file("d/x"),
				file("f", c.space+".overlay.metacopy", "", c.space+".overlay.redirect", "/secret/key"),
				dir("secret"), file("secret/key"),
				dir("w"), {Path: "w/gone", Type: tree.Char, Mode: 0o644}, file("w/kept", c.space+".overlay.whiteout", ""),
			}}
			work := t.TempDir()
			for _, d := range []string{"tree", "below", "upper", "work", "merged"} {
				ok(t, os.Mkdir(filepath.Join(work, d), 0o755))
			}
			// Were the directory opaque or redirected, or the device a whiteout, this would show.
			ok(t, os.MkdirAll(work+"/below/d", 0o755))
			ok(t, os.WriteFile(work+"/below/d/lower", []byte("lower"), 0o644))
			_, err := Write(tr, work+"/tree", o.open, c.opt)
			ok(t, err)
			err = unix.Mount("overlay", work+"/merged", "overlay", 0,
				fmt.Sprintf("%slowerdir=%s/tree:%s/below,upperdir=%s/upper,workdir=%s/work", c.options, work, work, work, work))
			if err != nil {
				t.Skipf("mount overlay: %v", err)
			}
			defer unix.Unmount(work+"/merged", unix.MNT_DETACH)
			var names []string
			for name := range facts(t, work+"/merged") {
				names = append(names, name)
			}
			slices.Sort(names)
			if got, want := strings.Join(names, " "), ". d d/lower d/x f secret secret/key w w/gone w/kept"; got != want {
				t.Errorf("files %s, want %s", got, want)
			}
			if b, err := os.ReadFile(work + "/merged/f"); string(b) != "abc" {
				t.Errorf("read %q, %v", b, err)
			}
			// Inside, both mean what they meant: shown without the escape.
			if got := xattrs(t, work+"/merged/d"); !strings.Contains(got, c.space+`.overlay.redirect="/secret"`) {
				t.Errorf("attributes %s", got)
			}
			if got := xattrs(t, work+"/merged/w/gone"); !strings.Contains(got, c.space+".overlay.whiteout") {
				t.Errorf("attributes %s", got)
			}
		})
	}
}
