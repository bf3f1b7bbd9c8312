package tree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// drawFull makes an index that uses every field.
func drawFull(t *rapid.T) *Index {
	x := drawIndex(t, true)
	x.DiffID = oci.FromBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "tar"))
	x.Size = rapid.Int64Range(0, math.MaxInt64).Draw(t, "size")
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Type == Hardlink || e.Type == Whiteout {
			continue
		}
		e.UID = rapid.SampledFrom([]uint32{0, 0, 1000, math.MaxUint32}).Draw(t, "uid")
		e.GID = rapid.SampledFrom([]uint32{0, 0, 1000, math.MaxUint32}).Draw(t, "gid")
		e.MTime = rapid.Int64().Draw(t, "mtime")
		e.NSec = rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")
		if e.Type == Fifo {
			e.Type = rapid.SampledFrom([]Type{Symlink, Char, Block, Fifo, Socket}).Draw(t, "kind")
		}
		switch e.Type {
		case Regular:
			if rapid.Bool().Draw(t, "object") {
				e.Object = oci.FromBytes(e.Inline)
				e.Inline = nil
				e.Size = rapid.Int64Range(0, math.MaxInt64).Draw(t, "size")
			}
		case Symlink:
			e.Link = rapid.StringMatching(`[^\x00]{1,40}`).Draw(t, "target")
		case Char, Block:
			e.Major, e.Minor = rapid.Uint32().Draw(t, "major"), rapid.Uint32().Draw(t, "minor")
		}
		if rapid.IntRange(0, 3).Draw(t, "attributed") == 0 {
			for _, name := range slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.StringMatching(`user\.[a-z]{1,9}`), 1, 3, rapid.ID[string]).Draw(t, "names"))) {
				e.Xattrs = append(e.Xattrs, Xattr{name, rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
			}
		}
	}
	return x
}

// sameBytes does not tell a nil slice from an empty one.
func sameBytes() cmp.Option {
	return cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })
}

func TestCodecInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawFull(t)
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		b := Encode(x)
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Entries) == 0 {
			x.Entries = got.Entries
		}
		if d := cmp.Diff(x, got, sameBytes()); d != "" {
			t.Fatal(d)
		}
		if !bytes.Equal(b, Encode(got)) {
			t.Fatal("encoding again gives other bytes")
		}
	})
}

// Any damage is seen: the checksum covers all.
func TestDecodeDamaged(t *testing.T) {
	b := Encode(layerOf("d a 700", "f a/b text", "h c a/b", "w d"))
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := Decode(bad); !errs.Is(err, errs.Corrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := Decode(b[:i]); !errs.Is(err, errs.Corrupt) {
			t.Errorf("cut to %d: %v", i, err)
		}
	}
}

// sealed puts magic and sum around b, as someone would who means harm.
func sealed(b []byte) []byte {
	b = append([]byte(codecMagic), b...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func TestDecodeHostile(t *testing.T) {
	unsealed := func(x *Index) []byte { b := Encode(x); return b[len(codecMagic) : len(b)-4] }
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"no diff id", []byte{7, 's', 'h', 'a', '2', '5', '6', ':', 0, 0}},
		{"more entries than bytes", append([]byte{0, 0}, binary.AppendUvarint(nil, math.MaxUint64)...)},
		{"more entries than bytes by a few", append([]byte{0, 0, 4}, make([]byte, 11)...)},
		{"bytes at the end", append(unsealed(layerOf("f a 1")), 0)},
		{"dot dot", unsealed(layerOf("f a/../b 1"))},
		{"absolute", unsealed(&Index{Entries: []Entry{{Path: "/a", Type: Fifo}}})},
		{"no type", unsealed(&Index{Entries: []Entry{{Path: "a"}}})},
		{"unknown type", unsealed(&Index{Entries: []Entry{{Path: "a", Type: 15}}})},
		{"out of order", unsealed(&Index{Entries: []Entry{{Path: "b", Type: Fifo}, {Path: "a", Type: Fifo}}})},
		{"twice", unsealed(layerOf("f a 1", "f a 2"))},
		{"below a file", unsealed(layerOf("f a 1", "f a/b 2"))},
		{"below a whiteout", unsealed(layerOf("w a", "f a/b 2"))},
		{"root is a file", unsealed(layerOf("f / 1"))},
		{"empty symlink", unsealed(layerOf("l a"))},
		{"hard link out", unsealed(layerOf("h a ../b"))},
		{"hard link to itself", unsealed(layerOf("h a a"))},
		{"opaque symlink", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Symlink, Link: "b", Opaque: true}}})},
		{"mode", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Fifo, Mode: 0o10000}}})},
		{"nanoseconds", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Fifo, NSec: 1e9}}})},
		{"long inline", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Regular, Size: 257, Inline: make([]byte, 257)}}})},
		{"attributes twice", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Fifo, Xattrs: []Xattr{{"user.a", nil}, {"user.a", nil}}}}})},
		{"attribute without a name", unsealed(&Index{Entries: []Entry{{Path: "a", Type: Fifo, Xattrs: []Xattr{{"", nil}}}}})},
	} {
		if x, err := Decode(sealed(c.b)); !errs.Is(err, errs.Corrupt) || x != nil {
			t.Errorf("%s: got %v, %v", c.name, x, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, x := range []*Index{
		layerOf(),
		layerOf("d a 700", "f a/b text", "h c a/b", "w d", "o e", "e f", "l g target"),
		{DiffID: oci.FromBytes(nil), Size: 1 << 40, Entries: []Entry{
			{Path: "dev/null", Type: Char, Mode: 0o666, Major: 1, Minor: 3, MTime: -1, NSec: 5},
			{Path: "ping", Type: Regular, UID: 1, Size: 1 << 20, Object: oci.FromBytes([]byte("x")), Xattrs: []Xattr{{"security.capability", []byte{1, 0, 0, 2}}}}}},
	} {
		b := Encode(x)
		f.Add(b[len(codecMagic) : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := Decode(sealed(b))
		if err != nil {
			return
		}
		again, err := Decode(Encode(x))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, again); d != "" {
			t.Fatal(d)
		}
		if got, err := Merge(x, again); err == nil {
			checkTree(t, got)
		}
	})
}

// sample is an index the size of a large image's.
func sample(n int) *Index {
	x := &Index{DiffID: oci.FromBytes(nil), Size: 550 << 20}
	for i := range n {
		dir := fmt.Sprintf("usr/lib/python3/dist-packages/pkg%03d", i/50)
		if i%50 == 0 {
			x.Entries = append(x.Entries, Entry{Path: dir, Type: Dir, Mode: 0o755, MTime: 1700000000})
			continue
		}
		x.Entries = append(x.Entries, Entry{Path: fmt.Sprintf("%s/module_%03d.py", dir, i%50), Type: Regular, Mode: 0o644, MTime: 1700000000 + int64(i/500),
			Size: int64(1000 + i), Object: oci.FromBytes([]byte(fmt.Sprint(i)))})
	}
	return x
}

func BenchmarkDecode(b *testing.B) {
	enc := Encode(sample(22_000))
	b.ReportMetric(float64(len(enc)), "bytes")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	x := sample(22_000)
	b.ReportAllocs()
	for b.Loop() {
		Encode(x)
	}
}

func BenchmarkMerge(b *testing.B) {
	layers := []*Index{sample(22_000)}
	for i := range 9 {
		small := sample(1000)
		for k := range small.Entries {
			small.Entries[k].Path = strings.Replace(small.Entries[k].Path, "pkg0", fmt.Sprint("pkg", i), 1)
		}
		layers = append(layers, small)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Merge(layers...); err != nil {
			b.Fatal(err)
		}
	}
}
