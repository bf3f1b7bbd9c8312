package erofs

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// distribution is a tree like that of a Linux distribution, of n entries: a dozen files a
// directory, every twelfth entry a link, every eighth a small file, one object in twenty
// known from elsewhere in the tree, times of some packages.
func distribution(n int) *tree.Tree {
	entries := make([]tree.Entry, 0, n)
	entries = append(entries, tree.Entry{Type: tree.Dir, Mode: 0o755})
	mtime := func(i int) int64 { return 1700000000 + int64(i/300)*3600 }
	dir, first := "", ""
	for i := 1; len(entries) < n; i++ {
		switch {
		case i%192 == 1:
			dir = fmt.Sprintf("usr%05d", i)
			first = ""
			entries = append(entries, tree.Entry{Path: dir, Type: tree.Dir, Mode: 0o755, MTime: mtime(i)})
		case i%16 == 0:
			dir = fmt.Sprintf("%s/lib%04d", dir[:8], i%192)
			entries = append(entries, tree.Entry{Path: dir, Type: tree.Dir, Mode: 0o755, MTime: mtime(i)})
		case i%12 == 5:
			entries = append(entries, tree.Entry{Path: fmt.Sprintf("%s/lib%04d.so.6", dir, i%192), Type: tree.Symlink, Mode: 0o777, Link: "libsomething.so.6.0.1", MTime: mtime(i)})
		case i%500 == 77 && first != "":
			entries = append(entries, tree.Entry{Path: fmt.Sprintf("%s/link%04d", dir, i%192), Type: tree.Hardlink, Link: first})
		case i%8 == 3:
			e := file(fmt.Sprintf("%s/m%04d.conf", dir, i%192), fmt.Sprintf("setting = %d\n", i))
			e.MTime = mtime(i)
			entries = append(entries, e)
		default:
			e := tree.Entry{Path: fmt.Sprintf("%s/n%04d.txt", dir, i%192), Type: tree.Regular, Mode: 0o644, Size: readMax + int64(i), MTime: mtime(i)}
			e.Object = oci.FromBytes(fmt.Append(nil, i))
			if i%20 == 7 {
				e.Object = oci.FromBytes(fmt.Append(nil, i%2000))
			}
			if first == "" {
				first = e.Path
			}
			entries = append(entries, e)
		}
	}
	return treeOf(entries...)
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{22_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tr := distribution(n)
			b.ReportAllocs()
			var info Info
			for b.Loop() {
				var err error
				if info, err = Write(io.Discard, tr, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
			b.ReportMetric(float64(info.Size)/float64(n), "imageB/entry")
		})
	}
}

func TestManyEntries(t *testing.T) {
	tr := distribution(100_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Write(io.Discard, tr, Options{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// More than was in use at any one time: garbage is counted too.
	if used := after.TotalAlloc - before.TotalAlloc; used > 60<<20 {
		t.Errorf("writing 100,000 entries took %d MiB", used>>20)
	}
	image, _ := mustWrite(t, tr, Options{})
	path := save(t, t.TempDir(), image)
	fsck(t, path)
	root := mustMount(t, "erofs", option{"source", path})
	if diff := differ(expect(tr, nil), look(t, root)); diff != "" {
		t.Errorf("the kernel sees (+) what was not written (-):\n%s", diff)
	}
}
