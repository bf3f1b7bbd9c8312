package records_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/records"
)

// Whatever the bytes are and however they come, the records give them back, and a range that
// was formatted is formatted to the same again.
func TestFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		for range rapid.IntRange(0, 20).Draw(t, "pieces") {
			b = append(b, bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.SampledFrom([]int{1, 2, 100, logs.MaxContent - 1, logs.MaxContent, logs.MaxContent + 1}).Draw(t, "times"))...)
			if rapid.Bool().Draw(t, "line") {
				b = append(b, '\n')
			}
		}
		limit := rapid.SampledFrom([]int{logs.MaxRecord, 2 * logs.MaxRecord, 1 << 30}).Draw(t, "limit")
		var back []byte
		for off := 0; off < len(b); {
			have := b[off : off+rapid.IntRange(1, len(b)-off).Draw(t, "have")]
			flush := rapid.Bool().Draw(t, "flush") || len(have) == len(b)-off
			out, used := records.Format(nil, have, 1, logs.Stdout, limit, flush)
			if used == 0 && flush {
				t.Fatal("nothing is taken")
			}
			if len(out) > limit {
				t.Fatalf("%d bytes, the limit is %d", len(out), limit)
			}
			again, n := records.Format(nil, have[:used], 1, logs.Stdout, 1<<62, true)
			if n != used || !bytes.Equal(out, again) {
				t.Fatalf("formatted again, %d bytes are %d", len(out), len(again))
			}
			for line := range bytes.Lines(out) {
				r, ok := logs.Parse(line)
				if !ok || len(r.Content) > logs.MaxContent {
					t.Fatalf("%.100q", line)
				}
				if back = append(back, r.Content...); !r.Partial {
					back = append(back, '\n')
				}
			}
			off += used
		}
		if !bytes.Equal(b, back) {
			t.Fatalf("%d bytes come back as %d", len(b), len(back))
		}
	})
}

// The way of a batch without the disk: lines of 100 bytes.
func BenchmarkFormat(b *testing.B) {
	const limit = 1 << 20
	in := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, 99), '\n'), 256<<10/100)
	out := make([]byte, 0, limit)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, used := records.Format(out, in, 1e18, logs.Stdout, limit, false); used != len(in) {
			b.Fatal(used)
		}
	}
}
