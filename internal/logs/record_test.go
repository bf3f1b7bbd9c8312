package logs

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const layout = "2006-01-02T15:04:05.000000000Z07:00"

func TestTimeAgreesWithPackageTime(t *testing.T) {
	try := func(ns int64) {
		want := time.Unix(0, ns).UTC().Format(layout)
		if got := string(AppendTime(nil, ns)); got != want {
			t.Fatalf("%d: got %s, want %s", ns, got, want)
		}
		if back, ok := ParseTime([]byte(want)); !ok || back != ns {
			t.Fatalf("%s: parsed as %d, %v; want %d", want, back, ok, ns)
		}
	}
	for y := 1678; y < 2261; y++ { // every edge of years and Februaries
		for _, s := range []string{"01-01T00:00:00Z", "02-28T23:59:59Z", "03-01T00:00:00Z", "12-31T23:59:59Z"} {
			at, err := time.Parse("2006-01-02T15:04:05Z", time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006-")+s)
			if err != nil {
				t.Fatal(err)
			}
			try(at.UnixNano())
			try(at.UnixNano() + 999999999)
			try(at.Add(24 * time.Hour).UnixNano())
		}
	}
	for range 20000 {
		try(rand.Int64N(1<<62) - rand.Int64N(1<<62))
	}
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Record{
			Time:    rapid.Int64Range(0, 1<<62).Draw(t, "time"),
			Stream:  Stream(rapid.IntRange(0, 1).Draw(t, "stream")),
			Partial: rapid.Bool().Draw(t, "partial"),
			Content: bytes.ReplaceAll(rapid.SliceOf(rapid.Byte()).Draw(t, "content"), []byte("\n"), nil),
		}
		line := Append(nil, want)
		if len(line) != HeadLen+len(want.Content)+1 {
			t.Fatalf("%q has %d bytes", line, len(line))
		}
		got, ok := Parse(line)
		if !ok || got.Time != want.Time || got.Stream != want.Stream || got.Partial != want.Partial || !bytes.Equal(got.Content, want.Content) {
			t.Fatalf("%q: got %+v, want %+v", line, got, want)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{
		"",
		"2026-11-21T12:00:00.000000000Z",
		"2026-11-21T12:00:00.000000000Z stdout F",
		"2026-11-21T12:00:00.000000000Z stdout X a",
		"2026-11-21T12:00:00.000000000Z stdin  F a",
		"2026-11-21T12:00:00.000000000Z stdout F a\nb\n",
		"2026-11-21T12:00:00.000000000+00:00 stdout F a",
		"2026-11-21T12:00:00Z stdout F a                                ",
		"2026-02-30T12:00:00.000000000Z stdout F a",
		"2026-13-01T12:00:00.000000000Z stdout F a",
		"2026-11-21T24:00:00.000000000Z stdout F a",
		"9026-11-21T12:00:00.000000000Z stdout F a",
	} {
		if r, ok := Parse([]byte(line)); ok {
			t.Errorf("%q was read as %+v", line, r)
		}
	}
}

// What parses is what would be written.
func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-11-21T12:00:00.000000000Z stdout F content of the line\n"))
	f.Add([]byte("1969-12-31T23:59:59.999999999Z stderr P "))
	f.Add([]byte("2024-02-29T00:00:00.000000001Z stderr F \x00\xff"))
	f.Add([]byte("2026-11-21T12:00:00.000000000Z stdout P\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, ok := Parse(line)
		if !ok {
			return
		}
		if again := Append(nil, r); !bytes.Equal(again[:len(again)-1], bytes.TrimSuffix(line, []byte("\n"))) {
			t.Fatalf("%q is written as %q", line, again)
		}
	})
}

func TestNames(t *testing.T) {
	for _, n := range []uint64{1, 9, 10, 1 << 63} {
		if got, c, ok := ParseName(Name(n)); got != n || c || !ok {
			t.Errorf("%s: %d %v %v", Name(n), got, c, ok)
		}
		if got, c, ok := ParseName(CompressedName(n)); got != n || !c || !ok {
			t.Errorf("%s: %d %v %v", CompressedName(n), got, c, ok)
		}
	}
	for _, name := range []string{"", "log", ".log", "0.log", "01.log", "+1.log", "-1.log", "1.log.gz.new", "1.gz", "a.log", "1.log.gz.gz", "99999999999999999999.log"} {
		if n, _, ok := ParseName(name); ok {
			t.Errorf("%q is file %d", name, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 100)
	dst := make([]byte, 0, 1024)
	b.SetBytes(101)
	for b.Loop() {
		dst = Append(dst[:0], Record{Time: 1763726400123456789, Content: line})
	}
	if len(dst) != HeadLen+101 {
		b.Fatal(len(dst))
	}
}
