package checkpoint

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	ok(t, os.MkdirAll(filepath.Dir(path), 0o755))
	ok(t, os.WriteFile(path, []byte(text), 0o600))
}

func sample() *Document {
	return &Document{Version: Version, Created: time.Unix(1763726400, 0).UTC(), Net: true,
		Spec:   &spec.Container{Version: 1, ID: "ab", Name: "web", Image: spec.Image{Name: "base", Config: "sha256:12"}},
		Mounts: []criu.Foreign{{At: "/dev", Kind: criu.Shown}}, Files: []File{{"file[1b:2f]", Stdout}}}
}

// archived is a checkpoint as an archive.
func archived(t testing.TB) []byte {
	dir := t.TempDir()
	for name, text := range map[string]string{"core-1.img": "core", "parent/pages-1.img": "old", "init": "elf", "dump.log": "paths", "corten.json": "{}", "x.sh": "no"} {
		write(t, filepath.Join(dir, name), text)
	}
	layer := filepath.Join(t.TempDir(), "layer")
	write(t, layer, "a layer")
	f, err := os.Open(layer)
	ok(t, err)
	defer f.Close()
	var b bytes.Buffer
	ok(t, Write(&b, dir, sample(), f))
	return b.Bytes()
}

func unpack(b []byte, dir string) (layer string, err error) {
	a, err := ReadArchive(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	err = a.Unpack(dir, func(r io.Reader) error {
		text, err := io.ReadAll(r)
		layer = string(text)
		return err
	})
	return layer, err
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	layer, err := unpack(archived(t), dir)
	ok(t, err)
	if layer != "a layer" {
		t.Errorf("the layer is %q", layer)
	}
	for name, want := range map[string]string{"core-1.img": "core", "parent/pages-1.img": "old", "init": "elf"} {
		if got, err := os.ReadFile(filepath.Join(dir, whole, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"dump.log", "x.sh"} {
		if _, err := os.Stat(filepath.Join(dir, whole, name)); err == nil {
			t.Errorf("%s came along", name)
		}
	}
	d, err := Load(filepath.Join(dir, whole))
	ok(t, err)
	if d.Spec.Name != "web" || len(d.Files) != 1 {
		t.Errorf("%+v", d)
	}
}

// A member that does not belong there is refused, and nothing is written for it.
func TestHostileArchive(t *testing.T) {
	text, err := json.Marshal(sample())
	ok(t, err)
	good := []tar.Header{{Name: "corten.json", Size: int64(len(text))}, {Name: "layer.tar"}}
	for _, bad := range []tar.Header{
		{Name: "images/../../x.img"}, {Name: "/images/x.img"}, {Name: "images/.x.img"}, {Name: "images/x.sh"}, {Name: "other/x.img"}, {Name: "images/a/x.img"},
		{Name: "images/parent/init"}, {Name: "images/x.img", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "images/x.img", Typeflag: tar.TypeDir},
		{Name: "layer.tar"}, {Name: "images/"}, {Name: "images/corten.json"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range append(good[:2:2], bad) {
			ok(t, w.WriteHeader(&h))
			if h.Name == "corten.json" {
				_, _ = w.Write(text)
			}
		}
		ok(t, w.Close())
		dir := t.TempDir()
		if _, err := unpack(b.Bytes(), filepath.Join(dir)); err == nil {
			t.Errorf("%s (%c) was taken", bad.Name, bad.Typeflag)
		}
		if list, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(list) > 0 {
			t.Errorf("%s left %v", bad.Name, list)
		}
	}
	for old, now := range map[string]string{`"version":1,"created"`: `"version":2,"created"`, `"at":"/dev"`: `"at":"/../dev"`, `"kind":"shown"`: `"kind":"root"`,
		"file[1b:2f]": "net[1]", `"role":"stdout"`: `"role":"all"`, `"spec":{"version":1`: `"spec":{"version":99`} {
		changed := strings.Replace(string(text), old, now, 1)
		if changed == string(text) {
			t.Fatalf("no %s in %s", old, text)
		}
		if _, err := parse([]byte(changed)); err == nil {
			t.Errorf("%s was taken", now)
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(archived(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "container")
		ok(t, os.Mkdir(dir, 0o700))
		_, _ = unpack(b, dir)
		list, err := os.ReadDir(top)
		if err != nil || len(list) != 1 {
			t.Errorf("beside the folder: %v, %v", list, err)
		}
	})
}

// What an archive may ask for without being asked about.
func TestTrustful(t *testing.T) {
	usual := func() *spec.Container {
		c := &spec.Container{Name: "x"}
		c.Security.Capabilities, c.Security.Masked, c.Security.ReadOnlyPaths = plan.DefaultCaps(), plan.DefaultMasked(), plan.DefaultReadOnly()
		return c
	}
	ok(t, Trustful(usual()))
	for name, change := range map[string]func(*spec.Container){
		"privileged": func(c *spec.Container) { c.Security.Privileged = true }, "unconfined": func(c *spec.Container) { c.Security.Unconfined = true },
		"a capability":   func(c *spec.Container) { c.Security.Capabilities = append(c.Security.Capabilities, "CAP_SYS_ADMIN") },
		"new privileges": func(c *spec.Container) { c.Security.AllowNewPrivs = true }, "users": func(c *spec.Container) { c.Namespaces.User.Mode = spec.UserHost },
		"network": func(c *spec.Container) { c.Namespaces.Net.Mode = spec.Host }, "a bind": func(c *spec.Container) { c.Mounts = []spec.Mount{{Type: spec.Bind, Source: "/etc"}} },
		"a volume": func(c *spec.Container) { c.Mounts = []spec.Mount{{Type: spec.Volume, Source: "data"}} }, "a device": func(c *spec.Container) { c.Devices = make([]spec.Device, 1) },
		"what is hidden": func(c *spec.Container) { c.Security.Masked = nil }, "a root": func(c *spec.Container) { c.Root.Path = "/" }, "the host": func(c *spec.Container) { c.Image.Platform = true },
	} {
		c := usual()
		change(c)
		if Trustful(c) == nil {
			t.Errorf("%s was given", name)
		}
	}
}
