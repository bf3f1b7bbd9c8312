package erofs

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// over is an overlay of lower layers, the upper one first, over a data-only layer.
func over(t *testing.T, data string, lowers ...string) string {
	t.Helper()
	var options []option
	for _, l := range lowers {
		options = append(options, option{"lowerdir+", l})
	}
	if data != "" {
		options = append(options, option{"datadir+", data})
	}
	return mustMount(t, "overlay", append(options, option{"metacopy", "on"}, option{"redirect_dir", "on"})...)
}

func mountTree(t *testing.T, tr *tree.Tree, opt Options) string {
	t.Helper()
	image, _ := mustWrite(t, tr, opt)
	return mustMount(t, "erofs", option{"source", save(t, t.TempDir(), image)})
}

func TestOverlayFindsObjects(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 10_000)
	dir, objects := store(t, "an object", "content", "kept elsewhere", "x", big)
	all := cases()
	all["objects"] = treeOf(object("a", "x"), object("d/b", "x"), object("d/big", big), object("empty", ""),
		tree.Entry{Path: "c", Type: tree.Hardlink, Link: "d/big"})
	for _, name := range []string{"objects", "types", "hard links", "names", "symbolic links", "hostile overlay attributes", "devices 0:0", "many shared attributes"} {
		t.Run(name, func(t *testing.T) {
			tr := all[name]
			got := look(t, over(t, dir, mountTree(t, tr, Options{})))
			for path, f := range got {
				f.Inode = "" // not kept by an overlay without an upper layer
				if f.Mode&unix.S_IFMT == unix.S_IFDIR {
					f.Nlink = 0
				}
				got[path] = f
			}
			if diff := differ(expect(tr, objects), got); diff != "" {
				t.Errorf("the overlay shows (+) what it should not (-):\n%s", diff)
			}
		})
	}
}

func TestOverlayReadsInAHugeObject(t *testing.T) {
	const size = 1 << 40
	e := object("huge", "the name of a sparse file need not be its digest for this")
	e.Size = size
	dir := t.TempDir()
	path := filepath.Join(dir, e.Object.Hex()[:2], e.Object.Hex()[2:])
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("end"), size-3); err != nil {
		t.Skipf("no sparse file of 1 TiB on this file system: %v", err)
	}
	root := over(t, dir, mountTree(t, treeOf(e), Options{}))
	g, err := os.Open(root + "/huge")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if end, err := g.Seek(0, io.SeekEnd); err != nil || end != size {
		t.Errorf("size %d, %v", end, err)
	}
	buf := make([]byte, 5)
	if _, err := g.ReadAt(buf, size-5); err != nil || string(buf) != "\x00\x00end" {
		t.Errorf("read %q, %v", buf, err)
	}
}

func TestForeignRedirectIsNotObeyed(t *testing.T) {
	dir, _ := store(t, "secret", "public")
	secret := oci.FromBytes([]byte("secret")).Hex()
	redirect := "/" + secret[:2] + "/" + secret[2:]
	empty, wrong := file("empty", ""), object("wrong", "public")
	moved := tree.Entry{Path: "moved", Type: tree.Dir, Mode: 0o755, Xattrs: xattrs("trusted.overlay.redirect", "/private")}
	empty.Xattrs = xattrs("trusted.overlay.metacopy", "", "trusted.overlay.redirect", redirect)
	wrong.Xattrs = xattrs("trusted.overlay.redirect", redirect)
	upper := mountTree(t, treeOf(empty, wrong, moved), Options{})
	lower := mountTree(t, treeOf(file("private/key", "secret")), Options{})
	root := over(t, dir, upper, lower)
	for name, want := range map[string]string{"empty": "", "wrong": "public"} {
		if got, err := os.ReadFile(root + "/" + name); err != nil || string(got) != want {
			t.Errorf("%s: read %q, %v, want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(root + "/moved/key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory followed a foreign redirect: %v", err)
	}
}

func TestMaskHidesWhatIsBelow(t *testing.T) {
	mask := treeOf(
		tree.Entry{Path: "root", Type: tree.Dir, Mode: 0o700, Opaque: true},
		tree.Entry{Path: "etc/shadow", Type: tree.Whiteout},
		tree.Entry{Path: "etc/ssl/private", Type: tree.Dir, Mode: 0o755, Opaque: true}, file("etc/ssl/private/README", "masked"),
		file("etc/hostname", "container\n"),
	)
	image, _ := mustWrite(t, mask, Options{Overlay: true})
	path := save(t, t.TempDir(), image)
	fsck(t, path)
	upper := mustMount(t, "erofs", option{"source", path})
	if diff := differ(expect(mask, nil), look(t, upper)); diff != "" {
		t.Errorf("the layer itself (+), as written (-):\n%s", diff)
	}
	lower := t.TempDir()
	for name, content := range map[string]string{"root/.ssh/id": "key", "etc/shadow": "hash", "etc/passwd": "root", "etc/ssl/private/key": "key", "etc/hostname": "host"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(lower, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lower, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	for path, f := range look(t, over(t, "", upper, lower)) {
		seen = append(seen, strings.TrimSpace(path+" "+strings.TrimSpace(f.Content)))
	}
	slices.Sort(seen)
	want := []string{"", "etc", "etc/hostname container", "etc/passwd root", "etc/ssl", "etc/ssl/private", "etc/ssl/private/README masked", "root"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("seen through the mask (+):\n%s", diff)
	}
}

// A device 0:0 in an image is there for an overlay mounted inside the container.
func TestNestedOverlayHonoursForeignWhiteouts(t *testing.T) {
	tr := treeOf(
		tree.Entry{Path: "upper/gone", Type: tree.Char}, tree.Entry{Path: "upper/d/gone", Type: tree.Char},
		tree.Entry{Path: "upper/o", Type: tree.Dir, Mode: 0o755, Xattrs: xattrs("trusted.overlay.opaque", "y")},
		file("lower/gone", "1"), file("lower/d/gone", "1"), file("lower/d/there", "1"), file("lower/o/gone", "1"), file("lower/there", "1"),
	)
	outer := over(t, t.TempDir(), mountTree(t, tr, Options{}))
	if _, err := os.Lstat(outer + "/upper/gone"); err != nil {
		t.Errorf("the outer overlay hides a foreign whiteout: %v", err)
	}
	inner := over(t, "", outer+"/upper", outer+"/lower")
	got := slices.Sorted(maps.Keys(look(t, inner)))
	if diff := cmp.Diff([]string{"", "d", "d/there", "o", "there"}, got); diff != "" {
		t.Errorf("the inner overlay shows (+):\n%s", diff)
	}
}

// Overlayfs keeps a copied-up file's inode number and hard links only if it can find the
// lower file again, which takes a file system UUID of its own for every image.
func TestCopyUpKeepsTheInode(t *testing.T) {
	dir, _ := store(t, "content")
	tr := treeOf(object("a", "content"), tree.Entry{Path: "b", Type: tree.Hardlink, Link: "a"})
	mask := mountTree(t, treeOf(tree.Entry{Path: "m", Type: tree.Dir, Opaque: true}), Options{Overlay: true})
	lower := mountTree(t, tr, Options{})
	upper, work := t.TempDir(), t.TempDir()
	root := mustMountWith(t, 0, "overlay", option{"lowerdir+", mask}, option{"lowerdir+", lower}, option{"datadir+", dir},
		option{"upperdir", upper}, option{"workdir", work}, option{"metacopy", "on"}, option{"redirect_dir", "on"}, option{"index", "on"})
	before, err := os.Stat(root + "/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root+"/a", 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(root + "/b")
	if err != nil {
		t.Fatal(err)
	}
	if after.Mode().Perm() != 0o600 || !os.SameFile(before, after) {
		t.Errorf("after chmod of a, b is %v with another inode: %v", after.Mode(), !os.SameFile(before, after))
	}
	if got, err := os.ReadFile(root + "/b"); err != nil || string(got) != "content" {
		t.Errorf("read %q, %v", got, err)
	}
}
