package escape_test

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/testimage"
)

// bases is what attacks run on: the host's own root, and an image with devices in it.
func bases(t *testing.T, w *world) []string {
	t.Helper()
	return []string{"host", w.load(t, "hostile", oci.Config{}, testimage.File{
		Name: "disk", Type: tar.TypeBlock, Mode: 0o666, Major: int64(unix.Major(w.node)), Minor: int64(unix.Minor(w.node))})}
}

// load makes an image of a few folders and these files and brings it into the store.
func (w *world) load(t *testing.T, name string, cfg oci.Config, files ...testimage.File) string {
	t.Helper()
	files = append([]testimage.File{
		{Name: "tmp", Type: tar.TypeDir, Mode: 0o1777}, {Name: "usr", Type: tar.TypeDir}, {Name: "etc", Type: tar.TypeDir},
		{Name: "etc/passwd", Data: []byte("root:x:0:0::/:/bin/sh\n")},
	}, files...)
	path := filepath.Join(w.dir, name+".tar")
	testimage.Build(t, cfg, testimage.Layer{Files: files}).WriteOCIArchive(t, path, name+":latest")
	output(t, w.corten("load", "-i", path))
	return name + ":latest"
}

// An image can ask for volumes: over /dev with a link in the place of null (see also
// TestNullByALink), and over /proc, where labels and settings are written.
func TestVolumesOfImages(t *testing.T) {
	w := newWorld(t)
	img := w.load(t, "null", oci.Config{Volumes: map[string]struct{}{"/dev": {}}},
		testimage.File{Name: "dev", Type: tar.TypeDir},
		testimage.File{Name: "dev/null", Type: tar.TypeSymlink, Link: "/proc/self/fd/0"})
	if got := output(t, w.run(nil, img, "/attack/attack", "tool", "stdin")); got != "character 1:3\n" {
		t.Errorf("with an image's link as null stdin is %q", got)
	}
	for i, target := range []string{"/proc", "/proc/self/attr", "/x/../proc/sys/net"} {
		img := w.load(t, fmt.Sprintf("proc%d", i), oci.Config{Volumes: map[string]struct{}{target: {}}})
		if out, err := w.run(nil, img, "/attack/attack", "tool", "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "own /proc") {
			t.Errorf("an image with a volume at %s: %v: %s", target, err, out)
		}
	}
}

// What overlayfs obeys in its own layers must not be for an image to say: a redirect would
// lead to any object of the store, and so to other images' files.
func TestAttributesOfImages(t *testing.T) {
	w := newWorld(t)
	const secret = "an image that others made keeps this to itself"
	long := []byte(strings.Repeat(secret, 100)) // an object, not inline
	w.load(t, "theirs", oci.Config{}, testimage.File{Name: "secret", Data: long, Mode: 0o600})
	hex := oci.FromBytes(long).Hex()
	object := "/" + hex[:2] + "/" + hex[2:]
	if _, err := os.Stat(filepath.Join(w.dir, "root/store/objects", object)); err != nil {
		t.Fatalf("objects have other names now: %v", err)
	}
	var files []testimage.File
	for i, prefix := range []string{"trusted.overlay.", "user.overlay.", "trusted.overlay.overlay.", "user.overlay.overlay."} {
		files = append(files, testimage.File{Name: fmt.Sprintf("file%d", i), Data: make([]byte, len(long)),
			Xattrs: map[string]string{prefix + "metacopy": "", prefix + "redirect": object}},
			testimage.File{Name: fmt.Sprintf("dir%d", i), Type: tar.TypeDir,
				Xattrs: map[string]string{prefix + "redirect": "/", prefix + "opaque": "y"}})
	}
	img := w.load(t, "ours", oci.Config{}, files...)
	out := output(t, w.run(nil, img, "/attack/attack", "tool", "walk", secret))
	if strings.Contains(out, "found") {
		t.Errorf("the image reads another's object: %s", out)
	}
}
