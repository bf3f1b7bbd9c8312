package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// BenchmarkPut22000 puts 22,000 files of 25 KB on average from two goroutines.
func BenchmarkPut22000(b *testing.B) {
	for range b.N {
		b.StopTimer()
		s := must(Open(b.TempDir()))(b)
		l := lease(b, s)
		content := make([]byte, 1<<20)
		for i := range content {
			content[i] = byte(rand.Uint32())
		}
		b.StartTimer()
		start := time.Now()
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				buf := make([]byte, 64<<10)
				for i := g; i < 22000; i += 2 {
					n := 1024 + i*7919%49152
					copy(buf[:n], content[i:])
					copy(buf, fmt.Sprint(i, "......"))
					if _, err := l.PutBytes(buf[:n]); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(22000/time.Since(start).Seconds(), "files/s")
		start = time.Now()
		ok(b, l.sync())
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-sync")
		b.StopTimer()
		l.Close()
	}
}

// BenchmarkPutKnown puts content that is there.
func BenchmarkPutKnown(b *testing.B) {
	s := must(Open(b.TempDir()))(b)
	l := lease(b, s)
	content := make([]byte, 4096)
	for b.Loop() {
		if _, err := l.PutBytes(content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is what a container's start asks of the store, among 30 images.
func BenchmarkStart(b *testing.B) {
	root := b.TempDir()
	s := must(Open(root))(b)
	for i := range 30 {
		must(pull(s, fmt.Sprintf("docker.io/library/image%d:1", i), fmt.Sprint(i), []string{"content"}))(b)
	}
	ok(b, os.MkdirAll(root+"/containers/c", 0o755))
	steps := []struct {
		name string
		hold bool
	}{{"read", false}, {"read+hold", true}}
	for _, step := range steps {
		b.Run(step.name, func(b *testing.B) {
			for b.Loop() {
				start(b, root, step.hold)
			}
		})
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			must(Open(root))(b)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		for b.Loop() {
			must(s.Lookup("docker.io/library/image17:1"))(b)
		}
	})
}

func start(b *testing.B, root string, hold bool) {
	s := must(Open(root))(b)
	d := must(s.Lookup("docker.io/library/image17:1"))(b)
	found := must(s.layout.Content(d.Digest))(b) // manifest and configuration, parsed
	k := NewTreeKey(EROFS, 1, found.Images[0].Layers)
	if _, ok := s.Tree(k); !ok {
		b.Fatal("no tree")
	}
	if hold {
		ok(b, s.Hold(Hold{ID: "c", Owner: "container c", Dir: "containers/c", Manifest: d.Digest, Tree: k.ID()}, disk.Volatile))
		ok(b, s.Release("c"))
	}
}

// BenchmarkCollect looks through five images of 22,000 files; then one of them, half of
// whose files are its own, is removed and collected.
func BenchmarkCollect(b *testing.B) {
	s := must(Open(b.TempDir()))(b)
	for i := range 5 {
		l := must(s.Lease("bench"))(b)
		x := &tree.Index{DiffID: oci.FromBytes([]byte{byte(i)}), Entries: []tree.Entry{{Type: tree.Dir, Mode: 0o755}}}
		for f := range 22000 {
			content := fmt.Appendf(nil, "file %d", f)
			if f%2 == 0 {
				content = fmt.Appendf(content, " of %d", i)
			}
			d := must(l.PutBytes(content))(b)
			x.Entries = append(x.Entries, tree.Entry{Path: fmt.Sprintf("usr/share/some/directory/f%06d", f), Type: tree.Regular, Mode: 0o644, Size: 25000, Object: d})
		}
		ok(b, l.PutLayers(ctx, x))
		c := config(fmt.Sprint(i), x.DiffID)
		m := manifest(c, x.DiffID)
		ok(b, l.PutBlob(oci.FromBytes(c), c))
		ok(b, l.PutBlob(oci.FromBytes(m), m))
		ok(b, s.SetRef(fmt.Sprintf("localhost/image:%d", i), descriptor(oci.TypeManifest, m)))
		ok(b, l.Close())
	}
	b.Run("nothing to do", func(b *testing.B) {
		for b.Loop() {
			must(s.Collect(ctx))(b)
		}
	})
	b.Run("sizes", func(b *testing.B) {
		for b.Loop() {
			must(s.Sizes(ctx))(b)
		}
	})
	b.Run("usage", func(b *testing.B) {
		for b.Loop() {
			must(s.Usage(ctx))(b)
		}
	})
	b.Run("one removed", func(b *testing.B) {
		for i := range b.N {
			if i > 4 {
				b.Skip("there are five")
			}
			ok(b, s.RemoveRef(fmt.Sprintf("localhost/image:%d", i), false))
			start := time.Now()
			f := must(s.Collect(ctx))(b)
			b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms")
			b.ReportMetric(float64(f.Objects), "objects")
		}
	})
}
