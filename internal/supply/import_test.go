package supply_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/supply"
	"github.com/cortenhq/corten/internal/testimage"
)

func TestImport(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	testimage.Configured(t).WriteRootFS(t, root)
	want := rootFS(t, testimage.Configured(t))
	dir := t.TempDir()
	paths := map[string]string{"plain": filepath.Join(dir, "root.tar")}
	if out, err := exec.Command("tar", "--xattrs", "--xattrs-include=*", "-C", root, "-cf", paths["plain"], ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	paths["gzip"], paths["zstd"] = pack(t, paths["plain"], "gzip"), pack(t, paths["plain"], "zstd")
	made := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	for how, path := range paths {
		t.Run(how, func(t *testing.T) {
			eachKind(t, func(t *testing.T, l *library) {
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				name := ref(t, "mine:1")
				x, err := supply.Import(t.Context(), l.Library, supply.ImportRequest{Tar: f, From: path, Ref: &name, Platform: image.Host(), Message: "a comment",
					Changes: []string{`CMD ["/report"]`, "ENV A=b"}, Now: made})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, look(t, l.show(t, x))); diff != "" {
					t.Error(diff)
				}
				d, err := l.Inspect(t.Context(), "mine:1", nil)
				if err != nil || d.ID != x.ID || d.Comment != "a comment" || !d.Created.Equal(made) || d.Architecture != image.Host().Architecture {
					t.Errorf("%+v, %v", d, err)
				}
				if !slices.Equal(d.Config.Cmd, []string{"/report"}) || !slices.Equal(d.Config.Env, []string{"A=b"}) || len(d.Config.Entrypoint) > 0 {
					t.Errorf("%+v", d.Config)
				}
				l.sound(t)
			})
		})
	}
}

func TestImportWithoutName(t *testing.T) {
	l := newLibrary(t, "dir")
	var b bytes.Buffer
	root := t.TempDir()
	if err := os.WriteFile(root+"/f", []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "-C", root, "-c", ".")
	cmd.Stdout = &b
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	other := oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	x, err := supply.Import(t.Context(), l.Library, supply.ImportRequest{Tar: &b, From: "-", Platform: other, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Find(x.ID.Short(), nil)
	if err != nil || found.ID != x.ID || found.Platform.Variant != "v8" {
		t.Errorf("%+v, %v", found, err)
	}
	if d, err := l.Inspect(t.Context(), x.ID.Short(), nil); err != nil || d.Comment != "Imported from -" || len(d.RepoTags) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestImportNonsense(t *testing.T) {
	l := newLibrary(t, "dir")
	digest := ref(t, "a@"+string(oci.FromBytes(nil)))
	for name, req := range map[string]supply.ImportRequest{
		"no tar":       {Tar: strings.NewReader("hello")},
		"nothing":      {Tar: strings.NewReader("")},
		"by digest":    {Tar: strings.NewReader(strings.Repeat("\x00", 1024)), Ref: &digest},
		"wrong change": {Tar: strings.NewReader(strings.Repeat("\x00", 1024)), Changes: []string{"RUN make"}},
	} {
		req.Platform = image.Host()
		if _, err := supply.Import(t.Context(), l.Library, req); !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v of kind %v", name, err, errs.KindOf(err))
		}
	}
	if l.count(t) != 0 {
		t.Error("something was published")
	}
}
