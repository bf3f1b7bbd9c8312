package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// file is one entry of a tar that a test makes.
type file struct {
	name, body string
	kind       byte // 0 is a regular file
	link       string
}

func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.body)), Mode: 0o644, Typeflag: f.kind, Linkname: f.link}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(raw, nil)
}

// tarFolder packs a folder as tar(1) would.
func tarFolder(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, name string, raw []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// readImage reads everything of an image and checks every digest, the DiffIDs too.
func readImage(s *Source, img Image) (oci.Manifest, error) {
	var m oci.Manifest
	raw, err := s.Manifest(img.Desc)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, err
	}
	raw, err = s.ReadBlob(m.Config, 1<<20)
	if err != nil {
		return m, err
	}
	var config oci.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return m, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return m, errors.New("another number of DiffIDs than layers")
	}
	for i, l := range m.Layers {
		if err := readLayer(s, l, config.RootFS.DiffIDs[i]); err != nil {
			return m, err
		}
	}
	return m, nil
}

func readLayer(s *Source, l oci.Descriptor, diffID oci.Digest) error {
	r, err := s.Blob(l)
	if err != nil {
		return err
	}
	defer r.Close()
	blob, diff := sha256.New(), sha256.New()
	in := io.TeeReader(r, blob)
	switch l.MediaType {
	case oci.TypeLayer:
		_, err = io.Copy(diff, in)
	case oci.TypeLayerGzip, oci.TypeDockerLayer:
		var z *gzip.Reader
		if z, err = gzip.NewReader(in); err == nil {
			_, err = io.Copy(diff, z)
		}
	case oci.TypeLayerZstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in); err == nil {
			_, err = io.Copy(diff, z)
			z.Close()
		}
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if !l.Digest.Matches(blob) || !diffID.Matches(diff) {
		return errors.New("a layer has another digest")
	}
	return nil
}

// forms opens the same archive in every way it may come; nothing may stay in the temporary folder.
func forms(t *testing.T, raw []byte, check func(t *testing.T, s *Source)) {
	dir := t.TempDir()
	temp := t.TempDir()
	plain := writeFile(t, filepath.Join(dir, "plain.tar"), raw)
	gzipped := writeFile(t, filepath.Join(dir, "archive.tar.gz"), gz(t, raw))
	for name, open := range map[string]func() (*Source, error){
		"file":      func() (*Source, error) { return Open(t.Context(), plain, "/nonexistent") },
		"gzip file": func() (*Source, error) { return Open(t.Context(), gzipped, temp) },
		"stream":    func() (*Source, error) { return Read(t.Context(), bytes.NewReader(raw), temp) },
		"gzip":      func() (*Source, error) { return Read(t.Context(), bytes.NewReader(gz(t, raw)), temp) },
		"zstd":      func() (*Source, error) { return Read(t.Context(), bytes.NewReader(zst(t, raw)), temp) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := open()
			if err != nil {
				t.Fatalf("%v [%s]", err, errs.HintOf(err))
			}
			defer s.Close()
			check(t, s)
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	for range 3 {
		layer, err := random.Layer(50_000, types.OCILayer)
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func hash(t *testing.T, f func() (v1.Hash, error)) oci.Digest {
	t.Helper()
	h, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return oci.Digest(h.String())
}

// An OCI layout made by another program keeps its manifest's digest.
func TestLayout(t *testing.T) {
	dir := t.TempDir()
	img := randomImage(t)
	want := hash(t, img.Digest)
	idx, err := random.Index(1000, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	at, err := layout.Write(dir, idx)
	if err != nil {
		t.Fatal(err)
	}
	for _, annotations := range []map[string]string{
		{"org.opencontainers.image.ref.name": "1.0", "io.containerd.image.name": "docker.io/library/x:1.0"},
		{"org.opencontainers.image.ref.name": "q.io/y:2"},
		{"org.opencontainers.image.ref.name": "latest"},
	} {
		if err := at.AppendImage(img, layout.WithAnnotations(annotations)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, s *Source) {
		list := s.Images()
		if len(list) != 4 {
			t.Fatalf("%d images, want 4: %+v", len(list), list)
		}
		got := list[3]
		if got.Desc.Digest != want || len(got.Refs) != 2 || got.Refs[0].Familiar() != "x:1.0" || got.Refs[1].Familiar() != "q.io/y:2" || got.Name != "latest" {
			t.Errorf("got %+v, want %s", got, want)
		}
		for _, img := range list {
			if _, err := readImage(s, img); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("folder", func(t *testing.T) {
		s, err := Open(t.Context(), dir, "/nonexistent")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		check(t, s)
	})
	forms(t, tarFolder(t, dir), check)
}

// A docker archive made by another program: its layers are compressed.
func TestDockerArchive(t *testing.T) {
	img := randomImage(t)
	tag, err := name.NewTag("q.io/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, img, &b); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var digest oci.Digest
	forms(t, b.Bytes(), func(t *testing.T, s *Source) {
		list := s.Images()
		if len(list) != 1 || len(list[0].Refs) != 1 || list[0].Refs[0].String() != "q.io/team/app:1" {
			t.Fatalf("images %+v", list)
		}
		m, err := readImage(s, list[0])
		if err != nil {
			t.Fatal(err)
		}
		if m.Config.Digest != hash(t, img.ConfigName) {
			t.Errorf("config %s", m.Config.Digest)
		}
		for i, l := range layers {
			if m.Layers[i].Digest != hash(t, l.Digest) || m.Layers[i].MediaType != oci.TypeLayerGzip {
				t.Errorf("layer %d is %+v", i, m.Layers[i])
			}
		}
		if digest == "" {
			digest = list[0].Desc.Digest
		}
		if list[0].Desc.Digest != digest {
			t.Errorf("manifest %s this time, %s before", list[0].Desc.Digest, digest)
		}
	})
}

// oldDocker is an image as Docker saved it before version 25: layers that are not
// compressed, one of them a link to the other's.
func oldDocker(t testing.TB) ([]file, oci.Digest) {
	layer := makeTar(t, file{name: "etc/hello", body: "hello"})
	id := oci.FromBytes(layer)
	config := `{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + string(id) + `","` + string(id) + `","` + string(id) + `"]}}`
	return []file{
		{name: "a/", kind: tar.TypeDir}, {name: "a/VERSION", body: "1.0"}, {name: "a/layer.tar", body: string(layer)},
		{name: "b/layer.tar", kind: tar.TypeSymlink, link: "../a/layer.tar"},
		{name: "c/layer.tar", kind: tar.TypeLink, link: "b/layer.tar"},
		{name: "config.json", body: config},
		{name: "./manifest.json", body: `[{"Config":"config.json","RepoTags":["old:1","old:2"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}]`},
	}, id
}

func TestOldDockerArchive(t *testing.T) {
	files, id := oldDocker(t)
	forms(t, makeTar(t, files...), func(t *testing.T, s *Source) {
		list := s.Images()
		if len(list) != 1 || len(list[0].Refs) != 2 || list[0].Refs[1].Familiar() != "old:2" || list[0].Desc.Platform.String() != "linux/arm64" {
			t.Fatalf("images %+v", list)
		}
		m, err := readImage(s, list[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Layers {
			if l.Digest != id || l.MediaType != oci.TypeLayer {
				t.Errorf("layer %+v", l)
			}
		}
	})
}

// Docker from version 25 on writes both forms; the layout counts, the names may be in
// either.
func TestBothForms(t *testing.T) {
	dir := t.TempDir()
	img := randomImage(t)
	at, err := layout.Write(dir, emptyIndex(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := at.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	config := hash(t, img.ConfigName)
	writeFile(t, filepath.Join(dir, "manifest.json"), []byte(`[{"Config":"blobs/sha256/`+config.Hex()+`","RepoTags":["both:1"],"Layers":[]}]`))
	forms(t, tarFolder(t, dir), func(t *testing.T, s *Source) {
		list := s.Images()
		if len(list) != 1 || list[0].Desc.Digest != hash(t, img.Digest) || len(list[0].Refs) != 1 || list[0].Refs[0].Familiar() != "both:1" {
			t.Fatalf("images %+v", list)
		}
	})
}

func emptyIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	idx, err := random.Index(1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return idx
}

// What skopeo writes and Podman saves.
func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo (Debian package skopeo) is not installed")
	}
	dir := t.TempDir()
	at, err := layout.Write(filepath.Join(dir, "layout"), emptyIndex(t))
	if err != nil {
		t.Fatal(err)
	}
	img := randomImage(t)
	if err := at.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "x"})); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"docker-archive", "oci-archive"} {
		t.Run(form, func(t *testing.T) {
			out := filepath.Join(dir, form+".tar")
			cmd := exec.Command("skopeo", "--insecure-policy", "copy", "oci:"+filepath.Join(dir, "layout")+":x", form+":"+out+":q.io/a/b:1")
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			raw, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			forms(t, raw, func(t *testing.T, s *Source) {
				list := s.Images()
				if len(list) != 1 || len(list[0].Refs) != 1 || list[0].Refs[0].String() != "q.io/a/b:1" {
					t.Fatalf("images %+v", list)
				}
				m, err := readImage(s, list[0])
				if err != nil {
					t.Fatal(err)
				}
				if form == "docker-archive" && m.Config.Digest != hash(t, img.ConfigName) {
					t.Errorf("config %s", m.Config.Digest)
				}
			})
		})
	}
}

// refusal is an archive that must not be accepted, and what is said about it.
type refusal struct {
	name string
	raw  []byte
	kind errs.Kind
	says string
}

func (tt refusal) check(t *testing.T) {
	temp := t.TempDir()
	path := writeFile(t, filepath.Join(t.TempDir(), "x.tar"), tt.raw)
	for _, open := range []func() (*Source, error){
		func() (*Source, error) { return Open(t.Context(), path, temp) },
		func() (*Source, error) { return Read(t.Context(), bytes.NewReader(tt.raw), temp) },
	} {
		s, err := open()
		if err == nil {
			s.Close()
			t.Fatal("accepted")
		}
		text := err.Error() + " [" + errs.HintOf(err) + "]"
		if !errs.Is(err, tt.kind) || errs.HintOf(err) == "" || !strings.Contains(text, tt.says) {
			t.Errorf("%s: kind %v; want %v and %q", text, errs.KindOf(err), tt.kind, tt.says)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Tars that are damaged, made to do harm, or something else.
func TestRefusedTar(t *testing.T) {
	good, _ := oldDocker(t)
	with := func(more ...file) []byte { return makeTar(t, append(more, good...)...) }
	whole := makeTar(t, good...)
	for _, tt := range []refusal{
		{"empty", nil, errs.Invalid, "neither"},
		{"root file system", makeTar(t, file{name: "bin/sh", body: "x"}), errs.Invalid, "corten import"},
		{"text", []byte(strings.Repeat("no tar at all\n", 100)), errs.Corrupt, "no tar"},
		{"before 1.10", makeTar(t, file{name: "repositories", body: "{}"}), errs.Unsupported, "1.10"},
		{"dots", with(file{name: "../../etc/passwd", body: "x"}), errs.Invalid, "leads out"},
		{"absolute", with(file{name: "/etc/passwd", body: "x"}), errs.Invalid, "leads out"},
		{"link out", with(file{name: "x", kind: tar.TypeSymlink, link: "../x"}), errs.Invalid, "leads out"},
		{"absolute link", with(file{name: "x", kind: tar.TypeSymlink, link: "/etc/shadow"}), errs.Invalid, "leads out"},
		{"hard link out", with(file{name: "x", kind: tar.TypeLink, link: "../../x"}), errs.Invalid, "leads out"},
		{"long name", with(file{name: strings.Repeat("a", maxName+1), body: "x"}), errs.Invalid, "leads out"},
		{"circle", replaceEntry(t, good, file{name: "a/layer.tar", kind: tar.TypeSymlink, link: "../b/layer.tar"}), errs.Invalid, "circle"},
		{"link to nothing", replaceEntry(t, good, file{name: "a/layer.tar", kind: tar.TypeSymlink, link: "gone"}), errs.Corrupt, "missing"},
		{"layer is a folder", replaceEntry(t, good, file{name: "a/layer.tar", kind: tar.TypeDir}), errs.Corrupt, "missing"},
		{"cut short", whole[:len(whole)-3000], errs.Corrupt, "cut short"},
		{"xz", []byte("\xfd7zXZ\x00..."), errs.Unsupported, "xz -dc"},
	} {
		t.Run(tt.name, tt.check)
	}
}

// Archives whose manifests and configurations are damaged, made to do harm, or missing.
func TestRefusedDocuments(t *testing.T) {
	good, _ := oldDocker(t)
	replace := func(name, body string) []byte {
		var files []file
		for _, f := range good {
			if strings.TrimPrefix(f.name, "./") == name {
				f.body = body
			}
			files = append(files, f)
		}
		return makeTar(t, files...)
	}
	layoutFile := file{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}
	for _, tt := range []refusal{
		{"huge manifest.json", replace("manifest.json", strings.Repeat(" ", maxManifest+1)), errs.Invalid, "manifest.json"},
		{"huge configuration", replace("config.json", strings.Repeat(" ", maxConfig+1)), errs.Invalid, "config.json"},
		{"no JSON", replace("manifest.json", "{"), errs.Corrupt, "manifest.json"},
		{"an object", replace("manifest.json", `{"schemaVersion":2}`), errs.Corrupt, "manifest.json"},
		{"no images", replace("manifest.json", "[]"), errs.NotFound, "no image"},
		{"missing layer", replace("manifest.json", `[{"Config":"config.json","Layers":["a/layer.tar","x","y"]}]`), errs.Corrupt, "missing"},
		{"missing configuration", replace("manifest.json", `[{"Config":"x","Layers":[]}]`), errs.Corrupt, "missing"},
		{"member outside", replace("manifest.json", `[{"Config":"../../../etc/passwd","Layers":[]}]`), errs.Invalid, "leads out"},
		{"no member", replace("manifest.json", `[{}]`), errs.Corrupt, "missing"},
		{"number of layers", replace("manifest.json", `[{"Config":"config.json","Layers":["a/layer.tar"]}]`), errs.Corrupt, "layers"},
		{"bad tag", replace("manifest.json", `[{"Config":"config.json","RepoTags":["A:!"],"Layers":["a/layer.tar","a/layer.tar","a/layer.tar"]}]`), errs.Invalid, "parse reference"},
		{"bad DiffID", replace("config.json", `{"rootfs":{"diff_ids":["sha256:x","",""]}}`), errs.Corrupt, "valid digest"},
		{"xz layer", replace("a/layer.tar", "\xfd7zXZ\x00..."), errs.Unsupported, "xz"},
		{"no marker", makeTar(t, file{name: "index.json", body: `{"manifests":[]}`}), errs.Invalid, "oci-layout"},
		{"new version", makeTar(t, file{name: "index.json", body: `{}`}, file{name: "oci-layout", body: `{"imageLayoutVersion":"2.0.0"}`}), errs.Unsupported, "2.0.0"},
		{"empty layout", makeTar(t, layoutFile, file{name: "index.json", body: `{"manifests":[]}`}), errs.NotFound, "no image"},
		{"other content", makeTar(t, layoutFile, file{name: "index.json", body: `{"manifests":[{"mediaType":"x/y","digest":"sha256:x"}]}`}), errs.NotFound, "no image"},
		{"bad digest", makeTar(t, layoutFile, file{name: "index.json", body: `{"manifests":[{"mediaType":"` + oci.TypeManifest + `","digest":"sha256:../../x"}]}`}), errs.Corrupt, "descriptor"},
		{"bad index", makeTar(t, layoutFile, file{name: "index.json", body: `{"manifests":{}}`}), errs.Corrupt, "index.json"},
	} {
		t.Run(tt.name, tt.check)
	}
}

// repeat is a stream of one tar header without end.
type repeat struct {
	block []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func TestEndless(t *testing.T) {
	block := makeTar(t, file{name: "x"})[:512]
	_, err := Read(t.Context(), &repeat{block: block}, t.TempDir())
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "entries") {
		t.Error(err)
	}
}

func replaceEntry(t *testing.T, files []file, by file) []byte {
	t.Helper()
	var list []file
	for _, f := range files {
		if f.name == by.name {
			f = by
		}
		list = append(list, f)
	}
	return makeTar(t, list...)
}

// A real sparse file, as GNU tar stores it, in both of its forms.
func TestSparseByTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("tar is not installed")
	}
	dir := t.TempDir()
	hole := filepath.Join(dir, "manifest.json")
	writeFile(t, hole, []byte("[]"))
	if err := os.Truncate(hole, 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		raw, err := exec.Command("tar", "--sparse", "--format="+format, "-C", dir, "-cf", "-", "manifest.json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 1<<19 {
			t.Skip("this file system keeps no holes")
		}
		_, err = Read(t.Context(), bytes.NewReader(raw), t.TempDir())
		if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestDamagedCompression(t *testing.T) {
	files, _ := oldDocker(t)
	raw := gz(t, makeTar(t, files...))
	raw[len(raw)-6] ^= 1 // the checksum, which comes after the tar's end
	_, err := Read(t.Context(), bytes.NewReader(raw), t.TempDir())
	if !errs.Is(err, errs.Corrupt) {
		t.Error(err)
	}
	_, err = Read(t.Context(), bytes.NewReader(raw[:len(raw)/2]), t.TempDir())
	if !errs.Is(err, errs.Corrupt) {
		t.Error(err)
	}
}

// Blobs that are not what their descriptor says, and ones that are not there.
func TestBadBlobs(t *testing.T) {
	const body = `{"schemaVersion":2}`
	d := oci.FromBytes([]byte(body))
	raw := makeTar(t,
		file{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`},
		file{name: "index.json", body: `{"manifests":[{"mediaType":"` + oci.TypeManifest + `","digest":"` + string(d) + `","size":19}]}`},
		file{name: blobName(d), body: strings.ToUpper(body)})
	forms(t, raw, func(t *testing.T, s *Source) {
		_, err := s.Manifest(s.Images()[0].Desc)
		if !errs.Is(err, errs.Corrupt) {
			t.Errorf("wrong content: %v", err)
		}
		_, err = s.Manifest(oci.Descriptor{Digest: d, Size: 18})
		if !errs.Is(err, errs.Corrupt) {
			t.Errorf("wrong size: %v", err)
		}
		_, err = s.Manifest(oci.Descriptor{Digest: oci.FromBytes(nil), Size: 1})
		if !errs.Is(err, errs.NotFound) || errs.HintOf(err) == "" {
			t.Errorf("missing: %v", err)
		}
		_, err = s.Blob(oci.Descriptor{Digest: "sha256:../../../../etc/passwd", Size: 1})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("bad digest: %v", err)
		}
		_, err = s.ReadBlob(oci.Descriptor{Digest: d, Size: 100}, 99)
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("too large: %v", err)
		}
	})
}

// A layout folder leads nowhere else and cannot make us wait.
func TestHostileFolder(t *testing.T) {
	outside := writeFile(t, filepath.Join(t.TempDir(), "index.json"), []byte(`{"manifests":[]}`))
	for name, make := range map[string]func(path string) error{
		"link out":      func(path string) error { return os.Symlink(outside, path) },
		"fifo":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"dangling link": func(path string) error { return os.Symlink("gone", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
			if err := make(filepath.Join(dir, "index.json")); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), dir, t.TempDir())
			if err == nil {
				t.Fatalf("accepted: %+v", s.Images())
			}
		})
	}
	_, err := Open(t.Context(), "/nonexistent", t.TempDir())
	if !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

// A full disk says so, and a cancelled command stops.
func TestReadErrors(t *testing.T) {
	files, _ := oldDocker(t)
	raw := makeTar(t, files...)
	_, err := Read(t.Context(), bytes.NewReader(raw), "/nonexistent")
	if !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "/nonexistent") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Read(ctx, bytes.NewReader(raw), t.TempDir())
	if !errs.Is(err, errs.Canceled) {
		t.Error(err)
	}
}

// FuzzRead: no archive makes the reader fail otherwise than by an error, and what it
// delivers has the digest and size that it says.
func FuzzRead(f *testing.F) {
	files, id := oldDocker(f)
	raw := makeTar(f, files...)
	f.Add(raw)
	f.Add(gz(f, raw))
	f.Add(zst(f, raw))
	config := `{"rootfs":{"diff_ids":["` + string(id) + `"]}}`
	m := `{"config":{"digest":"` + string(oci.FromBytes([]byte(config))) + `","size":96},"layers":[]}`
	f.Add(makeTar(f, file{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`},
		file{name: "index.json", body: `{"manifests":[{"mediaType":"` + oci.TypeManifest + `","digest":"` + string(oci.FromBytes([]byte(m))) + `","size":166}]}`},
		file{name: blobName(oci.FromBytes([]byte(m))), body: m}, file{name: "manifest.json", body: "[]"}))
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Read(t.Context(), bytes.NewReader(raw), temp)
		if err != nil {
			return
		}
		defer s.Close()
		for _, img := range s.Images() {
			text, err := s.Manifest(img.Desc)
			if err != nil {
				continue
			}
			if oci.FromBytes(text) != img.Desc.Digest && img.Desc.Digest.Algorithm() == "sha256" {
				t.Errorf("manifest %s has another digest", img.Desc.Digest)
			}
			var m oci.Manifest
			if json.Unmarshal(text, &m) != nil {
				continue
			}
			for _, d := range append(m.Layers, m.Config) {
				if r, err := s.Blob(d); err == nil {
					if n, err := io.Copy(io.Discard, r); err != nil || n != d.Size {
						t.Errorf("blob %s: %d bytes of %d, %v", d.Digest, n, d.Size, err)
					}
					r.Close()
				}
			}
		}
	})
}

// FuzzDocuments: the same for what is inside, which a tar's checksums keep from FuzzRead.
func FuzzDocuments(f *testing.F) {
	files, _ := oldDocker(f)
	f.Add(files[6].body, files[5].body, "", "../a/layer.tar")
	f.Add("", "", `{"manifests":[{"mediaType":"`+oci.TypeManifest+`","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,`+
		`"annotations":{"io.containerd.image.name":"x:1","org.opencontainers.image.ref.name":"latest"}}]}`, "a/../layer.tar")
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, manifest, config, index, link string) {
		if strings.Contains(link, "\x00") {
			return // no tar can hold it
		}
		list := []file{files[2], {name: "b/layer.tar", kind: tar.TypeSymlink, link: link}, {name: "config.json", body: config}}
		if manifest != "" {
			list = append(list, file{name: "manifest.json", body: manifest})
		}
		if index != "" {
			list = append(list, file{name: "index.json", body: index}, file{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`})
		}
		s, err := Read(t.Context(), bytes.NewReader(makeTar(t, list...)), temp)
		if err != nil {
			return
		}
		defer s.Close()
		for _, img := range s.Images() {
			for _, ref := range img.Refs {
				if back, err := oci.ParseRef(ref.String()); err != nil || back != ref {
					t.Errorf("name %+v", ref)
				}
			}
			readImage(s, img)
		}
	})
}
