package testimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	_ "embed" // for the source of the report program
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/oci"
)

// recipe is part of every cache key: raise it when a recipe changes what it makes.
const recipe = "1"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// True is an image of two files: /true and /false, static programs that only exit.
func True(t T) Image {
	t.Helper()
	return Build(t, oci.Config{Cmd: []string{"/true"}, Env: []string{defaultPath}}, Layer{Files: trueFiles()})
}

// Busybox is Debian's busybox-static in /bin/busybox with every applet a hard link beside it.
func Busybox(t T) Image {
	t.Helper()
	return Build(t, oci.Config{Cmd: []string{"sh"}, Env: []string{defaultPath}}, Layer{Files: busyboxFiles(t)})
}

func busyboxFiles(t T) []File {
	t.Helper()
	const path = "/bin/busybox"
	f, err := elf.Open(path)
	if err != nil {
		t.Skipf("no %s: apt-get install busybox-static", path)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skipf("%s is not static: apt-get install busybox-static", path)
		}
	}
	applets, err := exec.Command(path, "--list").Output()
	must(t, "list applets", err)
	files := []File{
		{Name: "bin", Type: tar.TypeDir}, {Name: "bin/busybox", Mode: 0o755, Path: path},
		{Name: "dev", Type: tar.TypeDir}, {Name: "proc", Type: tar.TypeDir}, {Name: "sys", Type: tar.TypeDir},
		{Name: "etc", Type: tar.TypeDir},
		{Name: "etc/group", Data: []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")},
		{Name: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Name: "root", Type: tar.TypeDir, Mode: 0o700}, {Name: "tmp", Type: tar.TypeDir, Mode: 0o1777},
		{Name: "usr", Type: tar.TypeDir}, {Name: "usr/bin", Type: tar.TypeDir}, {Name: "var", Type: tar.TypeDir},
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			files = append(files, File{Name: "bin/" + a, Type: tar.TypeLink, Link: "bin/busybox", Mode: 0o755})
		}
	}
	return files
}

//go:embed testdata/report/main.go
var reportSource []byte

// GoProgram is one static Go program, /report, in an otherwise empty image. It prints its
// uid, gid, groups, cwd, each arg and each env, one a line.
func GoProgram(t T) Image {
	t.Helper()
	return Build(t, oci.Config{Entrypoint: []string{"/report"}}, Layer{Files: []File{reportFile(t)}})
}

func reportFile(t T) File {
	t.Helper()
	sum := sha256.Sum256(append([]byte(recipe+runtime.Version()+runtime.GOARCH), reportSource...))
	dir := cached(t, "report-"+hex.EncodeToString(sum[:6]), func(dir string) {
		src := filepath.Join(t.TempDir(), "main.go")
		must(t, "write source", os.WriteFile(src, reportSource, 0o644))
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "report"), src)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		cmd.Dir = filepath.Dir(src)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("testimage: build report: %v: %s", err, out)
		}
	})
	return File{Name: "report", Mode: 0o755, Path: filepath.Join(dir, "report")}
}

// Configured is busybox and, in a second layer, /report, with every setting in its configuration: user app
// (1000:1000, also in group extra, 2000), whose /work is the working directory; a volume
// /data that has content; and entry point, command, environment, labels, ports, stop signal
// and health check.
func Configured(t T) Image {
	t.Helper()
	files := []File{
		reportFile(t),
		{Name: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:the app:/work:/bin/sh\n")},
		{Name: "etc/group", Data: []byte("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")},
		{Name: "work", Type: tar.TypeDir, UID: 1000, GID: 1000},
		{Name: "data", Type: tar.TypeDir, Mode: 0o750, UID: 1000, GID: 1000},
		{Name: "data/seed", Data: []byte("from the image\n"), UID: 1000, GID: 1000},
	}
	return Build(t, oci.Config{
		User:         "app",
		Entrypoint:   []string{"/report"},
		Cmd:          []string{"one", "two words"},
		WorkingDir:   "/work",
		Env:          []string{defaultPath, "GREETING=hello world", "EMPTY="},
		Volumes:      map[string]struct{}{"/data": {}},
		Labels:       map[string]string{"org.example.team": "storage", "org.example.empty": ""},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}},
		StopSignal:   "SIGQUIT",
		Healthcheck:  &oci.Healthcheck{Test: []string{"CMD", "/bin/true"}, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3},
	}, Layer{Files: busyboxFiles(t)}, Layer{Files: files})
}

// Features is five layers, of all three compressions, that hold what image formats can
// express: see its layers for the names. The merged tree has /data/gone (new content, one
// name), /data/opaque with c alone, /data/dir-to-file a file, /data/file-to-dir a folder,
// and neither /data/gonedir nor /data/link-b.
func Features(t T) Image {
	t.Helper()
	return Build(t, oci.Config{Cmd: []string{"sh"}, Env: []string{defaultPath}},
		Layer{Files: busyboxFiles(t)},
		Layer{Files: oddFiles()},
		Layer{Tar: sparseTar(), Compression: Plain},
		Layer{Files: whiteoutFiles(), Compression: Zstd},
		Layer{Files: []File{{Name: "data", Type: tar.TypeDir}, {Name: "data/gone", Data: []byte("back again\n"), Mode: 0o600}}},
	)
}

// capNetRaw is a security.capability attribute, version 2, in the kernel's
// vfs_cap_data: effective, permitted cap_net_raw (13), nothing inheritable.
const capNetRaw = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

func oddFiles() []File {
	files := []File{
		// Privilege on files.
		{Name: "usr/bin/capable", Path: "/bin/busybox", Mode: 0o755, Xattrs: map[string]string{xattrCapability: capNetRaw, "user.note": "made of \x00 bytes"}},
		{Name: "usr/bin/setuid", Path: "/bin/busybox", Mode: 0o4755},
		{Name: "usr/bin/setgid", Path: "/bin/busybox", Mode: 0o2755, GID: 5},
		{Name: "usr/shared", Type: tar.TypeDir, Mode: 0o2775, GID: 5},
		{Name: "data", Type: tar.TypeDir},
		{Name: "data/unreadable", Data: []byte("secret\n"), Mode: NoMode},
		// Names of one file, one of them in the layer below.
		{Name: "usr/bin/linked", Type: tar.TypeLink, Link: "bin/busybox", Mode: 0o755},
		{Name: "data/link-a", Data: []byte("two names\n"), UID: 7, GID: 8},
		{Name: "data/link-b", Type: tar.TypeLink, Link: "data/link-a"},
		// What is neither file nor folder.
		{Name: "dev/null", Type: tar.TypeChar, Mode: 0o666, Major: 1, Minor: 3},
		{Name: "dev/loop0", Type: tar.TypeBlock, Mode: 0o660, Major: 7, GID: 6},
		{Name: "data/fifo", Type: tar.TypeFifo, Mode: 0o600},
		{Name: "data/absolute", Type: tar.TypeSymlink, Link: "/bin/busybox"},
		{Name: "data/relative", Type: tar.TypeSymlink, Link: "../bin/busybox"},
		{Name: "data/dangling", Type: tar.TypeSymlink, Link: "/nowhere/at/all"},
		{Name: "data/loop", Type: tar.TypeSymlink, Link: "loop"},
		{Name: "data/long-link", Type: tar.TypeSymlink, Link: strings.Repeat("x/", 500) + "end"},
		// Times.
		{Name: "data/old", ModTime: time.Unix(-86400*365, 0)},
		{Name: "data/nanoseconds", ModTime: time.Unix(1_600_000_000, 123_456_789)},
		{Name: "data/future", ModTime: time.Unix(4_102_444_800, 0)},
		// Names.
		{Name: "data/" + strings.Repeat("n", 255), Data: []byte("the longest name\n")},
		{Name: "data/\u00fc\u65e5\u672c", Data: []byte("not ASCII\n")},
		{Name: "data/new\nline", Data: []byte("a name of two lines\n")},
		{Name: "data/-rf \\ '\"", Data: []byte("a name to quote\n")},
		{Name: "data/.hidden", Data: []byte("a dot\n")},
		{Name: "data/empty"},
		// What the whiteout layer works on.
		{Name: "data/gone", Data: []byte("old\n")},
		{Name: "data/gonedir", Type: tar.TypeDir}, {Name: "data/gonedir/child", Data: []byte("gone\n")},
		{Name: "data/opaque", Type: tar.TypeDir}, {Name: "data/opaque/a"}, {Name: "data/opaque/b", Type: tar.TypeDir}, {Name: "data/opaque/b/deep"},
		{Name: "data/dir-to-file", Type: tar.TypeDir}, {Name: "data/dir-to-file/child"},
		{Name: "data/file-to-dir", Data: []byte("a file\n")},
		{Name: "data/metadata", Data: []byte("same content, other mode\n"), Mode: 0o600},
	}
	deep := "data/deep"
	files = append(files, File{Name: deep, Type: tar.TypeDir})
	for range 30 { // a path of over 1,000 bytes
		deep += "/" + strings.Repeat("d", 40)
		files = append(files, File{Name: deep, Type: tar.TypeDir})
	}
	return append(files, File{Name: deep + "/file", Data: []byte("far down\n")})
}

func whiteoutFiles() []File {
	return []File{
		{Name: "data", Type: tar.TypeDir},
		{Name: "data/.wh.gone"}, {Name: "data/.wh.gonedir"}, {Name: "data/.wh.link-b"}, {Name: "data/.wh.never-there"},
		{Name: "data/opaque", Type: tar.TypeDir, Mode: 0o700}, {Name: "data/opaque/c", Data: []byte("c\n")}, {Name: "data/opaque/.wh..wh..opq"},
		{Name: "data/dir-to-file", Data: []byte("a file now\n")},
		{Name: "data/file-to-dir", Type: tar.TypeDir}, {Name: "data/file-to-dir/child", Data: []byte("a child\n")},
		{Name: "data/metadata", Data: []byte("same content, other mode\n"), Mode: 0o644, UID: 3},
	}
}

// sparseTar is /sparse-gnu, 64 MiB, and /sparse-pax, 1 GiB: holes but for two extents and
// one, at offsets where the letters stand.
func sparseTar() []byte {
	x := func(letter byte, n int) []byte { return bytes.Repeat([]byte{letter}, n) }
	var b []byte
	b = append(b, gnuSparse("sparse-gnu", 64<<20, extent{1 << 20, x('a', 4096)}, extent{32 << 20, x('b', 512)})...)
	b = append(b, paxSparse("sparse-pax", 1<<30, extent{1 << 29, x('c', 4096)})...)
	return append(b, make([]byte, 2*tarBlock)...)
}
