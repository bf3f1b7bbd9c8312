package testimage

import (
	"archive/tar"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/oci"
)

// WriteOCILayout writes the image as an OCI layout in dir, which is made if need be, and
// names it ref ("name:tag" or just "tag") in its index. Images written to one folder share it.
func (i Image) WriteOCILayout(t T, dir, ref string) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(t, "make layout", os.MkdirAll(blobs, 0o755))
	must(t, "write oci-layout", os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	for _, raw := range [][]byte{i.manifest, i.config} {
		must(t, "write blob", os.WriteFile(filepath.Join(blobs, oci.FromBytes(raw).Hex()), raw, 0o644))
	}
	for _, b := range i.layers {
		must(t, "copy layer", copyFile(filepath.Join(blobs, b.desc.Digest.Hex()), b.path))
	}
	index := readIndex(t, dir)
	index.Manifests = append(index.Manifests, oci.Descriptor{MediaType: i.media, Digest: i.Digest(), Size: int64(len(i.manifest)),
		Annotations: map[string]string{oci.AnnotationRefName: ref}})
	raw, err := json.Marshal(index)
	must(t, "marshal index", err)
	must(t, "write index", os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o644))
}

func readIndex(t T, dir string) oci.Index {
	t.Helper()
	index := oci.Index{SchemaVersion: 2, MediaType: oci.TypeIndex}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if os.IsNotExist(err) {
		return index
	}
	must(t, "read index", err)
	must(t, "parse index", json.Unmarshal(raw, &index))
	return index
}

// ReadOCILayout returns the image that the layout in dir names ref. The image goes on using
// the folder's files.
func ReadOCILayout(t T, dir, ref string) Image {
	t.Helper()
	path := func(d oci.Digest) string { return filepath.Join(dir, "blobs", d.Algorithm(), d.Hex()) }
	for _, d := range readIndex(t, dir).Manifests {
		if d.Annotations[oci.AnnotationRefName] != ref {
			continue
		}
		i := Image{media: d.MediaType}
		var m oci.Manifest
		var err error
		i.manifest, err = os.ReadFile(path(d.Digest))
		must(t, "read manifest", err)
		must(t, "parse manifest", json.Unmarshal(i.manifest, &m))
		i.config, err = os.ReadFile(path(m.Config.Digest))
		must(t, "read configuration", err)
		for _, l := range m.Layers {
			i.layers = append(i.layers, blob{path: path(l.Digest), desc: l})
		}
		return i
	}
	t.Fatalf("testimage: no image %q in %s", ref, dir)
	return Image{}
}

// WriteOCIArchive writes the image as a tar of an OCI layout.
func (i Image) WriteOCIArchive(t T, path, ref string) {
	t.Helper()
	dir := t.TempDir()
	i.WriteOCILayout(t, dir, ref)
	files := Tree(t, dir, nil)
	for n := range files { // owners and times of this run must not show
		f := &files[n]
		*f = File{Name: f.Name, Type: f.Type, Path: f.Path}
	}
	out, err := os.Create(path)
	must(t, "make archive", err)
	defer out.Close()
	must(t, "write archive", writeTar(out, files))
}

// WriteDockerArchive writes the image in the form of docker save: uncompressed layers, and a
// manifest.json that tags it ref.
func (i Image) WriteDockerArchive(t T, path, ref string) {
	t.Helper()
	type item struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	dir := t.TempDir()
	m := item{Config: oci.FromBytes(i.config).Hex() + ".json", RepoTags: []string{ref}}
	files := []File{{Name: m.Config, Data: i.config}}
	for _, b := range i.layers {
		plain := filepath.Join(dir, b.desc.Digest.Hex())
		must(t, "unpack layer", b.unpackTo(plain))
		name := b.desc.Digest.Hex() + "/layer.tar"
		m.Layers = append(m.Layers, name)
		files = append(files, File{Name: b.desc.Digest.Hex(), Type: tar.TypeDir}, File{Name: name, Path: plain})
	}
	raw, err := json.Marshal([]item{m})
	must(t, "marshal manifest.json", err)
	files = append(files, File{Name: "manifest.json", Data: raw})
	out, err := os.Create(path)
	must(t, "make archive", err)
	defer out.Close()
	must(t, "write archive", writeTar(out, files))
}

func (b blob) unpackTo(path string) error {
	r, err := b.uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, r)
	return err
}

// uncompressed reads the layer's tar.
func (b blob) uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	var r io.Reader = f
	done := func() {}
	switch b.desc.MediaType {
	case oci.TypeLayerGzip, oci.TypeDockerLayer:
		r, err = gzip.NewReader(f)
	case oci.TypeLayerZstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f); err == nil {
			r, done = z, z.Close
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &layerReader{r, f, done}, nil
}

type layerReader struct {
	io.Reader
	f    fs.File
	done func()
}

func (l *layerReader) Close() error {
	l.done()
	return l.f.Close()
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}
