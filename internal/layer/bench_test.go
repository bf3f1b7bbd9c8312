package layer

import (
	"archive/tar"
	"bufio"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
)

// The benchmarks' layer is made of this host's /usr and kept for the next time.
const (
	benchFiles = 22_000
	benchBytes = 550_000_000
)

func benchLayer(b *testing.B) string {
	b.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("corten-bench-%d-%d.tar.gz", benchFiles, benchBytes))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	type found struct {
		path string
		info fs.FileInfo
	}
	var all []found
	_ = filepath.WalkDir("/usr", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				all = append(all, found{p, info})
			}
		}
		return nil
	})
	var list []found
	total := int64(0)
	for i := range benchFiles {
		f := all[i*len(all)/benchFiles]
		list = append(list, f)
		total += f.info.Size()
	}
	slices.SortFunc(list, func(x, y found) int { return cmp.Compare(y.info.Size(), x.info.Size()) })
	for total > benchBytes { // the largest go
		total -= list[0].info.Size()
		list = list[1:]
	}
	slices.SortFunc(list, func(x, y found) int { return cmp.Compare(x.path, y.path) })
	f, err := os.Create(path + ".new")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for _, x := range list {
		h, err := tar.FileInfoHeader(x.info, "")
		if err != nil {
			b.Fatal(err)
		}
		h.Name = strings.TrimPrefix(x.path, "/")
		body, err := os.ReadFile(x.path)
		if err != nil {
			b.Fatal(err)
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			b.Fatal(err)
		}
	}
	if err := cmp.Or(w.Close(), z.Close(), os.Rename(path+".new", path)); err != nil {
		b.Fatal(err)
	}
	return path
}

// hashStore names content and keeps nothing.
type hashStore struct{}

func (hashStore) PutBytes(b []byte) (oci.Digest, error) { return oci.FromBytes(b), nil }
func (hashStore) PutReader(r io.Reader, _ int64) (oci.Digest, error) {
	h := sha256.New()
	_, err := io.CopyBuffer(h, r, make([]byte, 128<<10))
	return oci.SHA256(h), err
}

func cpuSeconds() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peakRSS is the most memory the process had since the last reset, in MB (proc(5): VmHWM).
func peakRSS() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb float64
	_, _ = fmt.Sscan(rest, &kb)
	return kb / 1000
}

func BenchmarkRead(b *testing.B) {
	path := benchLayer(b)
	for _, c := range []struct {
		name  string
		store func(b *testing.B) Objects
	}{
		{"files", func(b *testing.B) Objects { return newDirStore(b.TempDir()) }},
		{"hash", func(b *testing.B) Objects { return hashStore{} }},
		{"hash with recipe", func(b *testing.B) Objects { return hashStore{} }},
	} {
		b.Run("gzip/"+c.name, func(b *testing.B) {
			_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // resets the peak
			cpu := 0.0
			size, recipe := int64(0), int64(0)
			for b.Loop() {
				b.StopTimer()
				store := c.store(b)
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				start := cpuSeconds()
				z, _, err := Decompress(bufio.NewReader(f), "")
				if err != nil {
					b.Fatal(err)
				}
				opt := Options{}
				out := &countWriter{w: io.Discard}
				if strings.HasSuffix(c.name, "recipe") {
					opt.Recipe = out
				}
				x, err := Read(b.Context(), z, store, opt)
				if err != nil {
					b.Fatal(err)
				}
				size, recipe = x.Size, out.n
				cpu += cpuSeconds() - start
				f.Close()
			}
			b.SetBytes(size)
			b.ReportMetric(cpu/float64(b.N), "cpu-s/op")
			b.ReportMetric(peakRSS(), "peak-MB")
			b.ReportMetric(float64(recipe), "recipe-bytes")
		})
	}
}

func BenchmarkDecompress(b *testing.B) {
	path := benchLayer(b)
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		z, _, err := Decompress(f, "")
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, z, make([]byte, blockSize))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
		f.Close()
	}
}
