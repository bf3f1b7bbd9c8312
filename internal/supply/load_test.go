package supply_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/supply"
	"github.com/cortenhq/corten/internal/testimage"
)

// pack compresses a file beside it and returns the path.
func pack(t *testing.T, path, how string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var z io.WriteCloser = gzip.NewWriter(&b)
	if how == "zstd" {
		if z, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path += "." + how
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads an archive from a path or through a stream.
func (l *library) mustLoad(t *testing.T, path string, stream bool) []supply.Loaded {
	t.Helper()
	var got []supply.Loaded
	each := func(x supply.Loaded) { got = append(got, x) }
	var err error
	if stream {
		f, oerr := os.Open(path)
		if oerr != nil {
			t.Fatal(oerr)
		}
		defer f.Close()
		err = supply.LoadStream(t.Context(), l.Library, f, nil, quiet, each)
	} else {
		err = supply.LoadFile(t.Context(), l.Library, path, nil, quiet, each)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLoad(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	im := testimage.Configured(t)
	want := rootFS(t, im)
	paths := map[string]string{}
	paths["docker-archive"] = filepath.Join(dir, "docker.tar")
	im.WriteDockerArchive(t, paths["docker-archive"], "app:1")
	paths["oci-archive"] = filepath.Join(dir, "oci.tar")
	im.WriteOCIArchive(t, paths["oci-archive"], "app:1")
	for _, form := range []string{"docker-archive", "oci-archive"} {
		for _, how := range []string{"gzip", "zstd"} {
			paths[form+" "+how] = pack(t, paths[form], how)
		}
	}
	paths["layout"] = filepath.Join(dir, "layout")
	im.WriteOCILayout(t, paths["layout"], "app:1")
	for form, path := range paths {
		for _, stream := range []bool{false, true} {
			name := form + " file"
			if stream {
				name = form + " stream"
				if form == "layout" {
					continue
				}
			}
			t.Run(name, func(t *testing.T) {
				check := func(t *testing.T, l *library) {
					got := l.mustLoad(t, path, stream)
					if len(got) != 1 || len(got[0].Refs) != 1 || got[0].Refs[0].Familiar() != "app:1" {
						t.Fatalf("loaded %+v", got)
					}
					x, err := l.Find("app:1", nil)
					if err != nil || x.ID != oci.FromBytes(im.ConfigFile()) || x.Config.User == "" {
						t.Errorf("%+v, %v", x, err)
					}
					if diff := cmp.Diff(want, look(t, l.show(t, x))); diff != "" {
						t.Error(diff)
					}
					l.sound(t)
				}
				if stream || strings.Contains(form, " ") { // how the bytes came does not concern the tree
					check(t, newLibrary(t, "dir"))
				} else {
					eachKind(t, check)
				}
			})
		}
	}
}

// Archives of other programs.
func TestLoadWhatOthersWrote(t *testing.T) {
	needTool(t, "skopeo")
	dir := t.TempDir()
	im := testimage.Configured(t)
	layout := filepath.Join(dir, "layout")
	im.WriteOCILayout(t, layout, "1")
	for form, target := range map[string]string{
		"docker":   "docker-archive:" + dir + "/docker.tar:app:1",
		"oci":      "oci-archive:" + dir + "/oci.tar:app:1",
		"nameless": "docker-archive:" + dir + "/nameless.tar",
		"tag only": "oci-archive:" + dir + "/tag.tar:1",
		"layout":   "oci:" + dir + "/copied:app:1",
	} {
		t.Run(form, func(t *testing.T) {
			if out, err := exec.Command("skopeo", "--insecure-policy", "copy", "oci:"+layout+":1", target).CombinedOutput(); err != nil {
				t.Fatalf("skopeo: %v\n%s", err, out)
			}
			path := map[string]string{"docker": "docker.tar", "oci": "oci.tar", "nameless": "nameless.tar", "tag only": "tag.tar", "layout": "copied"}[form]
			l := newLibrary(t, "dir")
			got := l.mustLoad(t, filepath.Join(dir, path), false)
			if len(got) != 1 || len(got[0].Image.Layers) != 2 {
				t.Fatalf("loaded %+v", got)
			}
			if named := form != "nameless" && form != "tag only"; named != (len(got[0].Refs) == 1) {
				t.Errorf("its names are %v", got[0].Refs)
			}
			if _, err := l.Find(string(got[0].Image.ID), nil); err != nil {
				t.Error(err)
			}
			l.sound(t)
		})
	}
}

func TestLoadWhatUmociMade(t *testing.T) {
	needTool(t, "umoci")
	needRoot(t)
	layout := filepath.Join(t.TempDir(), "layout")
	root := t.TempDir()
	testimage.Busybox(t).WriteRootFS(t, root)
	for _, args := range [][]string{
		{"init", "--layout", layout},
		{"new", "--image", layout + ":made"},
		{"insert", "--image", layout + ":made", root + "/bin", "/bin"},
		{"config", "--image", layout + ":made", "--config.cmd", "sh", "--architecture", image.Host().Architecture},
	} {
		if out, err := exec.Command("umoci", args...).CombinedOutput(); err != nil {
			t.Fatalf("umoci %v: %v\n%s", args, err, out)
		}
	}
	l := newLibrary(t, "dir")
	got := l.mustLoad(t, layout, false)
	if len(got) != 1 || !slices.Equal(got[0].Image.Config.Cmd, []string{"sh"}) {
		t.Fatalf("loaded %+v", got)
	}
	if look(t, l.show(t, got[0].Image))["bin/busybox"] == "" {
		t.Error("busybox is missing")
	}
}

// Several images of one archive share their layers.
func TestLoadSeveral(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	testimage.Busybox(t).WriteOCILayout(t, dir, "one:1")
	testimage.Configured(t).WriteOCILayout(t, dir, "two:1")
	l := newLibrary(t, "dir")
	if got := l.mustLoad(t, dir, false); len(got) != 2 {
		t.Errorf("loaded %+v", got)
	}
	for _, name := range []string{"one:1", "two:1"} {
		if _, err := l.Find(name, nil); err != nil {
			t.Error(err)
		}
	}
	l.sound(t)
}

func TestLoadNonsense(t *testing.T) {
	l := newLibrary(t, "dir")
	dir := t.TempDir()
	testimage.Configured(t).WriteOCIArchive(t, dir+"/good", "app:1")
	good, err := os.ReadFile(dir + "/good")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("hello\n"), "cut off": good[:len(good)/2]} {
		if err := os.WriteFile(dir+"/bad", content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := supply.LoadFile(t.Context(), l.Library, dir+"/bad", nil, quiet, func(supply.Loaded) {}); err == nil || errs.Is(err, errs.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := supply.LoadFile(t.Context(), l.Library, dir+"/none", nil, quiet, func(supply.Loaded) {}); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if l.count(t) != 0 {
		t.Error("something was published")
	}
	if left, _ := os.ReadDir(l.Root()); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	l.sound(t)
}
