package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	kgzip "github.com/klauspost/compress/gzip"
)

// samples are contents of different nature, each with a name.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	skewed := make([]byte, 400_000) // long codes for rare bytes
	for i := range skewed {
		skewed[i] = byte(min(255, int(r.ExpFloat64()*8)))
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		binary = nil
	}
	near := []byte{} // matches at every small distance
	for d := 1; d < 40; d++ {
		near = append(near, bytes.Repeat(random[:d], 1+1000/d)...)
		near = append(near, random[d*50:d*50+33]...)
	}
	far := append(append(bytes.Clone(random[:32768]), random[:32768]...), random[:100_000]...)
	return map[string][]byte{
		"nothing": nil,
		"a byte":  {'x'},
		"zeros":   make([]byte, 600_000),
		"text":    []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. 0123456789\n", 10_000)),
		"random":  random,
		"skewed":  skewed,
		"binary":  binary[:min(len(binary), 1<<20)],
		"near":    near,
		"far":     far,
	}
}

func pack(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRead(t *testing.T) {
	for name, want := range samples() {
		packed := map[string][]byte{}
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
			packed[fmt.Sprint("go ", level)] = pack(t, want, level)
		}
		for _, level := range []string{"-1", "-6", "-9"} {
			cmd := exec.Command("gzip", "-c", level)
			cmd.Stdin = bytes.NewReader(want)
			b, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			packed["gzip "+level] = b
		}
		for how, b := range packed {
			for way, src := range map[string]io.Reader{
				"at once":       bytes.NewReader(b),
				"in halves":     iotest.HalfReader(bytes.NewReader(b)),
				"end with data": iotest.DataErrReader(bytes.NewReader(b)),
			} {
				got, err := io.ReadAll(NewReader(src))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s by %s, %s: %d of %d bytes, %v", name, how, way, len(got), len(want), err)
				}
			}
		}
	}
	b := pack(t, samples()["text"], 6)
	if got, err := io.ReadAll(iotest.OneByteReader(NewReader(iotest.OneByteReader(bytes.NewReader(b))))); err != nil || !bytes.Equal(got, samples()["text"]) {
		t.Errorf("a byte a time: %d bytes, %v", len(got), err)
	}
}

func TestHeaders(t *testing.T) {
	var out bytes.Buffer
	want := ""
	for i := range 5 {
		w := gzip.NewWriter(&out)
		if i > 0 {
			w.Extra, w.Name, w.Comment = bytes.Repeat([]byte{1}, i*100), "name", "comment"
		}
		text := strings.Repeat("x", i*1000)
		io.WriteString(w, text)
		want += text
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	summed := []byte{0x1f, 0x8b, 8, 2 | 8, 0, 0, 0, 0, 0, 0, 'n', 0}
	sum := crc32.ChecksumIEEE(summed)
	summed = append(summed, byte(sum), byte(sum>>8), 3, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	out.Write(summed)
	if got, err := io.ReadAll(NewReader(&out)); err != nil || string(got) != want {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
	summed[12]++
	if _, err := io.ReadAll(NewReader(bytes.NewReader(summed))); err != ErrHeader {
		t.Errorf("with a bad header sum: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	one := pack(t, []byte(strings.Repeat("some text to pack, ", 50)), 6)
	torn := errors.New("torn")
	for n := range one {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(one[:n]))); err != io.ErrUnexpectedEOF {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if _, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(one[:n]), iotest.ErrReader(torn)))); err != torn {
			t.Errorf("torn at %d bytes: %v", n, err)
		}
		bad := bytes.Clone(one)
		bad[n] ^= 0x08
		got, err := io.ReadAll(NewReader(bytes.NewReader(bad)))
		old, oldErr := std(bad)
		if (err == nil) != (oldErr == nil) || err == nil && !bytes.Equal(got, old) {
			t.Errorf("byte %d changed: %v, compress/gzip says %v", n, err, oldErr)
		}
	}
	if _, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(one), "garbage after it"...)))); err != ErrHeader {
		t.Errorf("followed by garbage: %v", err)
	}
}

// member is a gzip file whose deflate data is given bit by bit, in the order in which they
// are read; blanks are for the eye.
func member(bits string) []byte {
	b := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}
	bits = strings.ReplaceAll(bits, " ", "")
	for i := range bits {
		if i%8 == 0 {
			b = append(b, 0)
		}
		b[len(b)-1] |= (bits[i] - '0') << (i % 8)
	}
	return append(b, make([]byte, 80)...) // room for a trailer, and for wrong codes to go on
}

// num is v in n bits, the lowest first.
func num(v, n int) string {
	s := ""
	for i := range n {
		s += string(rune('0' + v>>i&1))
	}
	return s
}

func TestBadBlocks(t *testing.T) {
	dynamic := "1 01 " + num(0, 5) + num(0, 5) // 257 literals, one distance
	only16and18 := num(0, 4) + num(1, 3) + num(0, 3) + num(1, 3) + num(0, 3)
	for name, bits := range map[string]string{
		"reserved type":             "1 11",
		"stored with a bad length":  "1 00 00000" + num(1, 16) + num(1, 16),
		"too many literals":         "1 01 " + num(30, 5) + num(0, 5) + num(0, 4),
		"too many distances":        "1 01 " + num(0, 5) + num(30, 5) + num(0, 4),
		"too many codes of lengths": dynamic + num(0, 4) + num(1, 3) + num(1, 3) + num(1, 3) + num(1, 3),
		"too few codes of lengths":  dynamic + num(0, 4) + num(2, 3) + num(2, 3) + num(0, 3) + num(0, 3),
		"unused code of lengths":    dynamic + num(0, 4) + num(0, 3) + num(0, 3) + num(1, 3) + num(0, 3) + "1",
		"repeats nothing":           dynamic + only16and18 + "0",
		"repeats too often":         dynamic + only16and18 + "1" + num(127, 7) + "1" + num(127, 7),
		"no end of block":           dynamic + only16and18 + "1" + num(127, 7) + "1" + num(109, 7),
		"match before the start":    "1 10 0000001 00000",
		"length that is none":       "1 10 11000110",
		"distance that is none":     "1 10 00110000 0000001 11110",
	} {
		b := member(bits)
		if got, err := io.ReadAll(NewReader(bytes.NewReader(b))); err != ErrData {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err := std(b); err == nil {
			t.Errorf("%s: compress/gzip takes it", name)
		}
	}
	// A match may not reach into the member before.
	b := append(pack(t, []byte("some text"), 6), member("1 10 0000001 00000 0000000")...)
	if _, err := io.ReadAll(NewReader(bytes.NewReader(b))); err != ErrData {
		t.Errorf("reaching back over members: %v", err)
	}
}

func std(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// FuzzBlocks reads bytes as deflate data, as compress/flate does too.
func FuzzBlocks(f *testing.F) {
	for _, b := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			packed := pack(f, b[:min(len(b), 3000)], level)
			f.Add(packed[10:len(packed)-8], uint16(0))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, chunk uint16) {
		limited := io.LimitReader(flate.NewReader(bytes.NewReader(b)), 8<<20)
		want, wantErr := io.ReadAll(limited)
		if len(want) == 8<<20 {
			return
		}
		rest := bytes.NewReader(b)
		z := flate.NewReader(rest)
		_, _ = io.Copy(io.Discard, z)
		used := len(b) - rest.Len()
		member := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}, b[:used]...)
		sum, n := crc32.ChecksumIEEE(want), len(want)
		member = append(member, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24), byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		var src io.Reader = bytes.NewReader(member)
		if chunk > 0 {
			src = &chunkReader{src, int(chunk)}
		}
		got, err := io.ReadAll(NewReader(src))
		if wantErr == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, %v; compress/flate has %d", len(got), err, len(want))
		}
		if wantErr != nil && err == nil {
			t.Fatalf("%d bytes; compress/flate has %d and says %v", len(got), len(want), wantErr)
		}
	})
}

// chunkReader gives at most n bytes at a time.
type chunkReader struct {
	r io.Reader
	n int
}

func (c *chunkReader) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }

// BenchmarkRead compares readers on the file named by CORTEN_BENCH_GZIP, else on text and
// machine code.
func BenchmarkRead(b *testing.B) {
	packed, err := os.ReadFile(os.Getenv("CORTEN_BENCH_GZIP"))
	if err != nil {
		exe, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			b.Fatal(err)
		}
		packed = pack(b, exe, 6)
	}
	for _, c := range []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"inflate", func(r io.Reader) (io.Reader, error) { return NewReader(r), nil }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) }},
		{"std", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 256<<10)
			for b.Loop() {
				z, err := c.open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, z, buf)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}
