// Package testimage makes real container images for tests and benchmarks, with no network
// but Debian's packages. Only tests and the benchmark import it.
//
// An image is born from a configuration and layers (Build) or from a recipe (Busybox,
// Debian, Bench and others). It is written where the code under test will look for it: as an
// OCI layout, an archive or a root file system, or pushed to a registry that lives as long
// as the test. Costly recipes are kept between runs in a cache folder: $CORTEN_TEST_CACHE,
// or corten-test in the user's cache folder. The same recipe yields the same digests, except
// that Debian's packages and the installed busybox and Go may be newer another day.
package testimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/oci"
)

// T is what is asked of a test: *testing.T, *testing.B, *testing.F or the benchmark's own
// session. Fatalf and Skipf do not return.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Compression is how a layer travels.
type Compression uint8

// The compressions of the image specification.
const (
	Gzip Compression = iota
	Zstd
	Plain
)

// Layer is one layer to build: Files in the order given, or Tar as it is when that is set.
type Layer struct {
	Files       []File
	Tar         []byte
	Compression Compression
}

// Image is an image at rest: its manifest and configuration in memory, its layers in files
// that live as long as the test or the cache.
type Image struct {
	manifest []byte
	config   []byte
	media    string // media type of the manifest
	layers   []blob
}

// blob is one layer in a file.
type blob struct {
	path string
	desc oci.Descriptor
}

// Created is the time in every image and the newest modification time of any file: a
// constant, so that images made twice are the same.
func Created() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

// Build makes an OCI image for this machine's architecture.
func Build(t T, cfg oci.Config, layers ...Layer) Image {
	t.Helper()
	return assemble(t, t.TempDir(), cfg, layers, false)
}

// BuildDocker makes the same image in Docker's schema 2 media types. Docker has none for
// zstd: such layers keep the OCI type.
func BuildDocker(t T, cfg oci.Config, layers ...Layer) Image {
	t.Helper()
	return assemble(t, t.TempDir(), cfg, layers, true)
}

func assemble(t T, dir string, cfg oci.Config, layers []Layer, docker bool) Image {
	t.Helper()
	created := Created()
	config := oci.Image{Created: &created, Platform: oci.Platform{OS: "linux", Architecture: runtime.GOARCH}, Config: cfg}
	config.RootFS.Type = "layers"
	var blobs []blob
	for _, l := range layers {
		b, diffID, err := l.write(dir, docker)
		must(t, "write layer", err)
		blobs = append(blobs, b)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, oci.History{Created: &created, CreatedBy: "testimage"})
	}
	raw, err := json.Marshal(config)
	must(t, "marshal configuration", err)

	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest}
	m.Config = oci.Descriptor{MediaType: oci.TypeConfig, Digest: oci.FromBytes(raw), Size: int64(len(raw))}
	if docker {
		m.MediaType, m.Config.MediaType = oci.TypeDockerManifest, oci.TypeDockerConfig
	}
	for _, b := range blobs {
		m.Layers = append(m.Layers, b.desc)
	}
	manifest, err := json.Marshal(m)
	must(t, "marshal manifest", err)
	return Image{manifest: manifest, config: raw, media: m.MediaType, layers: blobs}
}

// write puts the layer into a file of dir that is named by its digest.
func (l Layer) write(dir string, docker bool) (blob, oci.Digest, error) {
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return blob{}, "", err
	}
	defer f.Close()
	packed, plain := sha256.New(), sha256.New()
	z, err := l.compressor(io.MultiWriter(f, packed))
	if err != nil {
		return blob{}, "", err
	}
	out := io.MultiWriter(z, plain)
	if l.Tar != nil {
		_, err = out.Write(l.Tar)
	} else {
		err = writeTar(out, l.Files)
	}
	if err != nil {
		return blob{}, "", err
	}
	if err := z.Close(); err != nil {
		return blob{}, "", err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return blob{}, "", err
	}
	d := oci.Descriptor{MediaType: l.mediaType(docker), Digest: oci.SHA256(packed), Size: size}
	path := filepath.Join(dir, d.Digest.Hex())
	return blob{path: path, desc: d}, oci.SHA256(plain), os.Rename(f.Name(), path)
}

func (l Layer) compressor(w io.Writer) (io.WriteCloser, error) {
	switch l.Compression {
	case Plain:
		return nopCloser{w}, nil
	case Zstd:
		// One encoder: with more, the place where blocks end depends on their number.
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return gzip.NewWriter(w), nil
}

func (l Layer) mediaType(docker bool) string {
	switch {
	case l.Compression == Zstd:
		return oci.TypeLayerZstd
	case l.Compression == Plain && !docker:
		return oci.TypeLayer
	case l.Compression == Plain:
		return string(types.DockerUncompressedLayer)
	case docker:
		return oci.TypeDockerLayer
	}
	return oci.TypeLayerGzip
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Digest is the digest of the manifest.
func (i Image) Digest() oci.Digest { return oci.FromBytes(i.manifest) }

// Manifest is the manifest as registries serve it.
func (i Image) Manifest() []byte { return bytes.Clone(i.manifest) }

// ConfigFile is the configuration as registries serve it.
func (i Image) ConfigFile() []byte { return bytes.Clone(i.config) }

// Push writes the image to a registry as host/ref over plain HTTP and returns host/ref.
func (i Image) Push(t T, host, ref string) string {
	t.Helper()
	full := host + "/" + ref
	r, err := name.ParseReference(full, name.Insecure)
	must(t, "parse reference", err)
	must(t, "push "+full, remote.Write(r, i.V1(t)))
	return full
}

// V1 is the image in the words of go-containerregistry, for tests that compare with it.
func (i Image) V1(t T) v1.Image {
	t.Helper()
	img, err := partial.CompressedToImage(core{i})
	must(t, "read image", err)
	return img
}

// core is the part of a v1.Image from which package partial derives the rest.
type core struct{ i Image }

func (c core) RawManifest() ([]byte, error)        { return c.i.manifest, nil }
func (c core) RawConfigFile() ([]byte, error)      { return c.i.config, nil }
func (c core) MediaType() (types.MediaType, error) { return types.MediaType(c.i.media), nil }
func (b blob) Digest() (v1.Hash, error)            { return v1.NewHash(string(b.desc.Digest)) }
func (b blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b blob) MediaType() (types.MediaType, error) { return types.MediaType(b.desc.MediaType), nil }
func (b blob) Compressed() (io.ReadCloser, error)  { return os.Open(b.path) }
func (c core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, b := range c.i.layers {
		if string(b.desc.Digest) == h.String() {
			return b, nil
		}
	}
	return nil, os.ErrNotExist
}

// must ends the test when err is not nil.
func must(t T, op string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testimage: %s: %v", op, err)
	}
}
