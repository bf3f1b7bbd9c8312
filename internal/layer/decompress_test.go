package layer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func bzip2ed(t testing.TB, b []byte) []byte {
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("bzip2: %v", err)
	}
	return out
}

func unpack(r io.Reader) ([]byte, Compression, error) {
	z, kind, err := Decompress(r, oci.TypeLayerGzip)
	if err != nil {
		return nil, kind, err
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	return b, kind, err
}

func TestDecompress(t *testing.T) {
	text := []byte(strings.Repeat("a layer of some length\n", 10_000))
	gz := gzipped(t, text)
	skippable := append([]byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zstded(t, text)...)
	for _, c := range []struct {
		name string
		b    []byte
		kind Compression
		want []byte
	}{
		{"plain", text, Plain, text},
		{"nothing", nil, Plain, nil},
		{"short", []byte{0x1f}, Plain, []byte{0x1f}},
		{"gzip", gz, Gzip, text},
		{"gzip in two members", append(bytes.Clone(gz), gz...), Gzip, append(bytes.Clone(text), text...)},
		{"zstd", zstded(t, text), Zstd, text},
		{"zstd in two frames", append(zstded(t, text), zstded(t, text)...), Zstd, append(bytes.Clone(text), text...)},
		{"zstd after a skippable frame", skippable, Zstd, text},
		{"bzip2", bzip2ed(t, text), Bzip2, text},
	} {
		digest := oci.FromBytes(c.b)
		got, kind, err := unpack(Verify(bytes.NewReader(c.b), digest, int64(len(c.b))))
		if err != nil || kind != c.kind || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, %v, %v", c.name, len(got), kind, err)
		}
		// The source is read to its end, or a wrong digest would pass unseen.
		if _, _, err := unpack(Verify(bytes.NewReader(c.b), oci.FromBytes([]byte("other")), -1)); !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s with a wrong digest: %v", c.name, err)
		}
		if c.kind == Plain {
			continue
		}
		torn := errs.New(errs.Unavailable, "get", "blob", errors.New("connection reset"))
		for _, n := range []int{0, 1, 3, 6, 12, len(c.b) / 3, len(c.b) - 1} {
			if _, _, err := unpack(&tornReader{c.b[:n], torn}); !errors.Is(err, torn) || !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s torn at %d: %v", c.name, n, err)
			}
			if n < 6 {
				continue
			}
			if _, _, err := unpack(bytes.NewReader(c.b[:n])); !errs.Is(err, errs.Corrupt) {
				t.Errorf("%s cut at %d: %v", c.name, n, err)
			}
			bad := bytes.Clone(c.b)
			bad[n] ^= 0x55
			if got, _, err := unpack(bytes.NewReader(bad)); err == nil && !bytes.Equal(got, c.want) || err != nil && !errs.Is(err, errs.Corrupt) {
				t.Errorf("%s damaged at %d: %v", c.name, n, err)
			}
		}
	}
}

func TestDecompressRefuses(t *testing.T) {
	for _, c := range []struct {
		name, mediaType string
		b               []byte
		hint            string
	}{
		{"encrypted", oci.TypeLayerGzip + "+encrypted", gzipped(t, nil), "decrypt"},
		{"xz", "", []byte("\xfd7zXZ\x00\x00"), "xz -dc"},
		{"lz4", "", []byte("\x04\x22\x4d\x18\x64\x40"), "lz4 -dc"},
	} {
		_, _, err := Decompress(bytes.NewReader(c.b), c.mediaType)
		if !errs.Is(err, errs.Unsupported) || !strings.Contains(errs.HintOf(err), c.hint) {
			t.Errorf("%s: %v, hint %q", c.name, err, errs.HintOf(err))
		}
	}
}

// A layer end to end: packed, verified, read.
func TestReadPacked(t *testing.T) {
	b := many(t, 50, 5000)
	for _, packed := range [][]byte{b, gzipped(t, b), zstded(t, b)} {
		z, _, err := Decompress(Verify(bytes.NewReader(packed), oci.FromBytes(packed), int64(len(packed))), "")
		if err != nil {
			t.Fatal(err)
		}
		x, err := Read(t.Context(), z, newDirStore(t.TempDir()), Options{DiffID: oci.FromBytes(b)})
		if err != nil || len(x.Entries) != 50 {
			t.Errorf("%v, %v", x, err)
		}
		z.Close()
		z, _, err = Decompress(Verify(bytes.NewReader(packed), oci.FromBytes(b[1:]), -1), "")
		if err != nil {
			t.Fatal(err)
		}
		if x, err := Read(t.Context(), z, newDirStore(t.TempDir()), Options{}); x != nil || !errs.Is(err, errs.Corrupt) {
			t.Errorf("with a wrong digest: %v, %v", x, err)
		}
		z.Close()
	}
}
