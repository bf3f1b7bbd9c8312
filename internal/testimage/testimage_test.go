package testimage

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
)

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners and devices are set")
	}
}

// recipes are the images that are cheap to make.
func recipes() map[string]func(T) Image {
	return map[string]func(T) Image{"true": True, "busybox": Busybox, "go": GoProgram, "configured": Configured, "features": Features}
}

func TestImagesAreValid(t *testing.T) {
	for name, make := range recipes() {
		t.Run(name, func(t *testing.T) {
			i := make(t)
			var opts []validate.Option
			if name == "features" { // the full check takes every layer for gzip
				opts = append(opts, validate.Fast)
			}
			if err := validate.Image(i.V1(t), opts...); err != nil {
				t.Error(err)
			}
			if again := make(t); again.Digest() != i.Digest() {
				t.Errorf("made twice: %s, then %s", i.Digest(), again.Digest())
			}
		})
	}
}

func TestRegistriesTakeImages(t *testing.T) {
	hosts := map[string]func(*testing.T) string{
		"in process": func(t *testing.T) string { return Registry(t) },
		"debian":     func(t *testing.T) string { return DebianRegistry(t).Host },
	}
	for where, start := range hosts {
		t.Run(where, func(t *testing.T) {
			host := start(t)
			for _, i := range []Image{True(t), BuildDocker(t, oci.Config{}, Layer{Files: trueFiles()})} {
				ref, err := name.ParseReference(i.Push(t, host, "some/image:1"), name.Insecure)
				if err != nil {
					t.Fatal(err)
				}
				got, err := remote.Get(ref)
				if err != nil {
					t.Fatal(err)
				}
				if got.Digest.String() != string(i.Digest()) || string(got.MediaType) != i.media {
					t.Errorf("got %s %s, want %s %s", got.MediaType, got.Digest, i.media, i.Digest())
				}
			}
		})
	}
}

// TestSkopeoReadsWhatIsWritten copies each form with a tool that is not ours.
func TestSkopeoReadsWhatIsWritten(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("no skopeo: apt-get install skopeo")
	}
	dir := t.TempDir()
	i := Configured(t)
	i.WriteOCILayout(t, dir+"/layout", "1")
	i.WriteOCIArchive(t, dir+"/oci.tar", "1")
	i.WriteDockerArchive(t, dir+"/docker.tar", "localhost/configured:1")
	for n, src := range []string{"oci:" + dir + "/layout:1", "oci-archive:" + dir + "/oci.tar:1", "docker-archive:" + dir + "/docker.tar"} {
		to := filepath.Join(dir, "copy", string(rune('a'+n)))
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(skopeo, "--insecure-policy", "copy", src, "dir:"+to).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", src, err, out)
		}
	}
	again := ReadOCILayout(t, dir+"/layout", "1")
	if again.Digest() != i.Digest() || !bytes.Equal(again.ConfigFile(), i.ConfigFile()) {
		t.Errorf("read back %s, wrote %s", again.Digest(), i.Digest())
	}
}

func TestExitELF(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("programs are for amd64 and arm64")
	}
	for _, code := range []uint8{0, 1, 255} {
		path := filepath.Join(t.TempDir(), "exit")
		if err := os.WriteFile(path, ExitELF(runtime.GOARCH, code), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path)
		if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != int(code) {
			t.Errorf("exit %d: got %v", code, err)
		}
	}
}

func TestReportRuns(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	GoProgram(t).WriteRootFS(t, root)
	cmd := exec.Command("/report", "one", "two words")
	cmd.Env = []string{"A=b"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	want := "uid 0\ngid 0\ngroups []\ncwd /\narg /report\narg one\narg two words\nenv A=b\n"
	if got := string(out); err != nil || dropGroups(got) != dropGroups(want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func dropGroups(s string) string {
	head, tail, _ := strings.Cut(s, "groups ")
	_, tail, _ = strings.Cut(tail, "\n")
	return head + tail
}

func TestFeaturesRootFS(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	Features(t).WriteRootFS(t, root)
	at := func(p string) string { return filepath.Join(root, p) }

	for path, want := range map[string]string{
		"data/gone": "back again\n", "data/opaque/c": "c\n", "data/dir-to-file": "a file now\n", "data/file-to-dir/child": "a child\n",
		"data/link-a": "two names\n", "data/new\nline": "a name of two lines\n",
	} {
		if got, err := os.ReadFile(at(path)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"data/gonedir", "data/link-b", "data/opaque/a", "data/opaque/b", "data/.wh.never-there"} {
		if _, err := os.Lstat(at(path)); !os.IsNotExist(err) {
			t.Errorf("%s is there", path)
		}
	}
	checkStat(t, at("usr/bin/setuid"), syscall.S_IFREG|0o4755, 0)
	checkStat(t, at("data/unreadable"), syscall.S_IFREG, 0)
	checkStat(t, at("data/opaque"), syscall.S_IFDIR|0o700, 0)
	checkStat(t, at("dev/null"), syscall.S_IFCHR|0o666, unix.Mkdev(1, 3))
	checkStat(t, at("dev/loop0"), syscall.S_IFBLK|0o660, unix.Mkdev(7, 0))

	buf := make([]byte, 64)
	if n, err := unix.Getxattr(at("usr/bin/capable"), xattrCapability, buf); err != nil || string(buf[:n]) != capNetRaw {
		t.Errorf("capability: got %x, %v", buf[:max(n, 0)], err)
	}
	a, errA := os.Stat(at("usr/bin/linked"))
	b, errB := os.Stat(at("bin/busybox"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("usr/bin/linked is not bin/busybox: %v, %v", errA, errB)
	}
}

func checkStat(t *testing.T, path string, mode uint32, dev uint64) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Error(err)
	} else if st.Mode != mode || st.Rdev != dev {
		t.Errorf("%s: mode %o device %x, want %o %x", path, st.Mode, st.Rdev, mode, dev)
	}
}

// TestSparse reads the hand-made entries with the standard library and with tar(1).
func TestSparse(t *testing.T) {
	sizes := map[string]int64{"sparse-gnu": 64 << 20, "sparse-pax": 1 << 30}
	tr := tar.NewReader(bytes.NewReader(sparseTar()))
	for range sizes {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Size != sizes[h.Name] {
			t.Errorf("%s: %d bytes, want %d", h.Name, h.Size, sizes[h.Name])
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("after the last entry: %v", err)
	}
	dir := t.TempDir()
	cmd := exec.Command("tar", "-x", "-C", dir)
	cmd.Stdin = bytes.NewReader(sparseTar())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	ours := t.TempDir()
	Build(t, oci.Config{}, Layer{Tar: sparseTar(), Compression: Plain}).WriteRootFS(t, ours)
	for name, at := range map[string]int64{"sparse-gnu": 32 << 20, "sparse-pax": 1 << 29} {
		for _, d := range []string{dir, ours} {
			var st syscall.Stat_t
			if err := syscall.Stat(filepath.Join(d, name), &st); err != nil {
				t.Fatal(err)
			}
			if st.Size != sizes[name] || st.Blocks*512 > 1<<20 {
				t.Errorf("%s/%s: %d bytes in %d blocks", d, name, st.Size, st.Blocks)
			}
			f, err := os.Open(filepath.Join(d, name))
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 512)
			if _, err := f.ReadAt(buf, at); err != nil || buf[0] != buf[511] || buf[0] == 0 {
				t.Errorf("%s/%s at %d: %v %v", d, name, at, buf[:4], err)
			}
			f.Close()
		}
	}
}

func TestDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks a Debian the first time")
	}
	i := Debian(t)
	found := false
	for tr := tar.NewReader(mutate.Extract(i.V1(t))); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found = found || h.Name == "etc/debian_version"
	}
	if !found {
		t.Error("no etc/debian_version")
	}
}

func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks a larger Debian the first time")
	}
	s := Bench(t).Stats
	t.Logf("%+v", s)
	within := func(what string, got, want, percent int64) {
		if got < want*(100-percent)/100 || got > want*(100+percent)/100 {
			t.Errorf("%s: %d, want %d within %d %%", what, got, want, percent)
		}
	}
	within("files", int64(s.Files), 22_000, 10)
	within("bytes", s.Bytes, 550_000_000, 10)
	within("files changed", int64(s.V2Files), int64(s.Files)/100, 10)
	within("files of the other image", int64(s.OtherFiles), int64(s.Files)/20, 10)
}
