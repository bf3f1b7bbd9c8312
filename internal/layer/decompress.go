package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/inflate"
)

// Compression is how a layer is packed.
type Compression uint8

// The compressions that Decompress undoes.
const (
	Plain Compression = iota
	Gzip
	Zstd
	Bzip2
)

func (c Compression) String() string {
	switch c {
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	case Bzip2:
		return "bzip2"
	}
	return "plain"
}

const (
	readAhead     = 128 << 10 // bytes of compressed data asked for at once
	maxZstdWindow = 128 << 20 // bytes: what "zstd --ultra -22" and "--long" need
)

// Decompress returns the tar in r. The first bytes say how it is packed, and not the media
// type, since both registries and people mix these up; the media type only tells that a
// layer is encrypted. The reader's errors are r's own, or of kind Corrupt. Its Close does
// not close r.
func Decompress(r io.Reader, mediaType string) (io.ReadCloser, Compression, error) {
	if strings.HasSuffix(mediaType, "+encrypted") {
		return nil, Plain, errs.Newf(errs.Unsupported, "decompress", mediaType, "the layer is encrypted").
			WithHint("decrypt the image first, for instance with skopeo copy --decryption-key")
	}
	src := &source{r: r}
	b := bufio.NewReaderSize(src, readAhead)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, Plain, err
	}
	d := &decompressor{src: src}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		d.r, d.kind = inflate.NewReader(b), Gzip
	case isZstd(head):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, Zstd, d.judge(err)
		}
		d.r, d.kind, d.close = z, Zstd, z.Close
	case bytes.HasPrefix(head, []byte("BZh")):
		d.r, d.kind = bzip2.NewReader(b), Bzip2
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return nil, Plain, errs.Newf(errs.Unsupported, "decompress", "", "the archive is compressed with xz").
			WithHint("unpack it first: xz -dc FILE | …")
	case bytes.HasPrefix(head, []byte{0x04, 0x22, 0x4d, 0x18}):
		return nil, Plain, errs.Newf(errs.Unsupported, "decompress", "", "the archive is compressed with lz4").
			WithHint("unpack it first: lz4 -dc FILE | …")
	default:
		d.r = b
	}
	return d, d.kind, nil
}

// isZstd knows a frame and a skippable frame (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.HasPrefix(head[1:], []byte{0x2a, 0x4d, 0x18})
}

// source remembers its error, to tell a broken connection from broken data.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

type decompressor struct {
	r     io.Reader
	src   *source
	kind  Compression
	close func()
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = d.judge(err)
	}
	return n, err
}

func (d *decompressor) judge(err error) error {
	switch d.src.err {
	case nil:
	case io.EOF:
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			return errs.Newf(errs.Corrupt, "decompress", d.kind.String(), "the data was cut off")
		}
	default:
		return d.src.err
	}
	return errs.New(errs.Corrupt, "decompress", d.kind.String(), err)
}

func (d *decompressor) Close() error {
	if d.close != nil {
		d.close()
	}
	return nil
}
