package testimage

import (
	"archive/tar"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/cortenhq/corten/internal/oci"
)

// suite is the Debian release that the recipes unpack.
const suite = "bookworm"

// Debian is the smallest Debian: debootstrap's minbase variant, in one layer. Making it
// needs root and the machine's apt mirror; afterwards it comes from the cache.
func Debian(t T) Image {
	t.Helper()
	dir := cached(t, "debian-"+suite+"-"+runtime.GOARCH+"-"+recipe, func(dir string) {
		root := debootstrap(t)
		files := normalize(Tree(t, root, keepDebian))
		assemble(t, t.TempDir(), oci.Config{Cmd: []string{"bash"}, Env: []string{defaultPath}}, []Layer{{Files: files}}, false).
			WriteOCILayout(t, dir, "latest")
	})
	return ReadOCILayout(t, dir, "latest")
}

// BenchSet is one large image and two relations of it.
type BenchSet struct {
	V1    Image // about 22,000 files, 550 MB, five layers; has a static /true
	V2    Image // V1 with 1 % of its files changed, spread over all layers
	Other Image // an image that has 95 % of V1's files
	Stats BenchStats
}

// BenchStats says how large the images of a BenchSet are.
type BenchStats struct {
	Files        int   // regular files in each image
	Bytes        int64 // their sizes, summed
	V2Files      int   // files of V2 that V1 lacks
	V2Bytes      int64
	OtherFiles   int // files of Other that V1 lacks
	OtherBytes   int64
	PackedV1     int64 // compressed layers of V1, summed
	PackedChange int64 // V2's changed files alone, as one compressed layer
}

// Bench makes the images that pulls are measured with. Changed files keep their size and
// their entropy, but not their sense: of V2 and Other only /true can be expected to run.
func Bench(t T) BenchSet {
	t.Helper()
	dir := cached(t, "bench-"+suite+"-"+runtime.GOARCH+"-"+recipe, func(dir string) {
		root := debootstrap(t, "perl", "python3", "gcc", "libc6-dev", "vim-nox", "manpages-dev", "python3-django")
		work := t.TempDir()
		layers := benchLayers(t, root)
		v2, changed := vary(layers, 100, 1)
		other, more := vary(layers, 20, 2)
		var s BenchStats
		s.Files, s.Bytes = measure(t, slices.Concat(layers...))
		s.V2Files, s.V2Bytes = measure(t, changed)
		s.OtherFiles, s.OtherBytes = measure(t, more)
		for tag, l := range map[string][][]File{"1": layers, "2": v2, "other": other} {
			i := buildBench(t, work, l)
			i.WriteOCILayout(t, dir, tag)
			if tag == "1" {
				s.PackedV1 = i.packed()
			}
		}
		s.PackedChange = buildBench(t, work, [][]File{changed}).packed()
		raw, err := json.MarshalIndent(s, "", "  ")
		must(t, "marshal statistics", err)
		must(t, "write statistics", os.WriteFile(filepath.Join(dir, "stats.json"), raw, 0o644))
	})
	set := BenchSet{V1: ReadOCILayout(t, dir, "1"), V2: ReadOCILayout(t, dir, "2"), Other: ReadOCILayout(t, dir, "other")}
	raw, err := os.ReadFile(filepath.Join(dir, "stats.json"))
	must(t, "read statistics", err)
	must(t, "parse statistics", json.Unmarshal(raw, &set.Stats))
	return set
}

func buildBench(t T, dir string, layers [][]File) Image {
	t.Helper()
	var ls []Layer
	for _, files := range layers {
		ls = append(ls, Layer{Files: files})
	}
	return assemble(t, dir, oci.Config{Cmd: []string{"/true"}, Env: []string{defaultPath}}, ls, true)
}

// packed is the size of the compressed layers.
func (i Image) packed() int64 {
	n := int64(0)
	for _, b := range i.layers {
		n += b.desc.Size
	}
	return n
}

// benchLayers cuts root into the layers of an image that was built in steps: the base, a
// compiler, two languages, documents and data, and a program of one's own.
func benchLayers(t T, root string) [][]File {
	t.Helper()
	cuts := [][]string{
		{"usr/lib/gcc", "usr/include"},
		{"usr/lib/python3", "usr/lib/python3.11", "usr/share/perl", "usr/share/perl5"},
		{"usr/share/doc", "usr/share/man", "usr/share/vim", "usr/share/locale", "usr/share/zoneinfo"},
	}
	within := func(path string, cut []string) bool {
		return slices.ContainsFunc(cut, func(c string) bool { return path == c || strings.HasPrefix(path, c+"/") })
	}
	above := func(path string, cut []string) bool {
		return slices.ContainsFunc(cut, func(c string) bool { return strings.HasPrefix(c, path+"/") })
	}
	base := Tree(t, root, func(path string, d fs.DirEntry) bool {
		return keepDebian(path, d) && !slices.ContainsFunc(cuts, func(cut []string) bool { return within(path, cut) })
	})
	layers := [][]File{normalize(base)}
	for _, cut := range cuts {
		layers = append(layers, normalize(Tree(t, root, func(path string, d fs.DirEntry) bool {
			return keepDebian(path, d) && (within(path, cut) || d.IsDir() && above(path, cut))
		})))
	}
	return append(layers, trueFiles())
}

// vary returns the layers with every nth file changed, and the changed files. Files over
// 1 MiB stay as they are: one compiler would outweigh all other changes.
func vary(layers [][]File, n int, flip byte) (out [][]File, changed []File) {
	count := 0
	for _, l := range layers {
		l = slices.Clone(l)
		for i, f := range l {
			st, err := os.Lstat(f.Path)
			if f.Type != tar.TypeReg || f.Path == "" || err != nil || st.Size() == 0 || st.Size() > 1<<20 {
				continue
			}
			if count++; count%n == n/2 {
				l[i].flip = flip
				changed = append(changed, l[i])
			}
		}
		out = append(out, l)
	}
	return out, changed
}

func measure(t T, files []File) (n int, bytes int64) {
	t.Helper()
	for _, f := range files {
		if f.Type != tar.TypeReg && f.Type != 0 {
			continue
		}
		h, body, err := f.open()
		must(t, "measure "+f.Name, err)
		body.Close()
		n++
		bytes += h.Size
	}
	return n, bytes
}

// debootstrap unpacks Debian's minbase and the packages given, and returns the folder.
func debootstrap(t T, packages ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("debootstrap needs root")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		t.Skipf("no debootstrap: apt-get install debootstrap")
	}
	root := filepath.Join(t.TempDir(), "root")
	debs := filepath.Join(CacheDir(t), "debs")
	must(t, "make package cache", os.MkdirAll(debs, 0o755))
	args := []string{"--variant=minbase", "--cache-dir=" + debs}
	if len(packages) > 0 {
		args = append(args, "--include="+strings.Join(packages, ","))
	}
	cmd := exec.Command("debootstrap", append(args, suite, root, mirror())...)
	// debootstrap mounts /proc in the new root. In a mount namespace of its own nothing can stay behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("testimage: debootstrap: %v: %s", err, out)
	}
	return root
}

// mirror is where this machine's apt gets Debian from.
func mirror() string {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			if site, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == suite {
				return site
			}
		}
	}
	return "http://deb.debian.org/debian"
}

// keepDebian leaves out what differs between two runs or names this machine.
func keepDebian(path string, _ fs.DirEntry) bool {
	switch path {
	case "etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list", "var/cache/ldconfig/aux-cache":
		return false
	}
	for _, dir := range []string{"dev/", "proc/", "sys/", "run/", "tmp/", "debootstrap/", "var/cache/apt/", "var/lib/apt/lists/", "var/log/"} {
		if strings.HasPrefix(path, dir) {
			return false
		}
	}
	return true
}

// normalize adds what keepDebian left out and an image must have.
func normalize(files []File) []File {
	for i, f := range files {
		if f.Name == "etc/apt" {
			list := File{Name: "etc/apt/sources.list", Data: []byte("deb http://deb.debian.org/debian " + suite + " main\n")}
			return slices.Insert(files, i+1, list)
		}
	}
	return files
}
