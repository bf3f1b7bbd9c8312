package layer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// A recipe is what a tar has besides the content of its objects: headers, padding, inline
// files, what follows the end. With the objects it gives the tar again, byte for byte, so
// that a layer can leave for a registry as it came without being kept a second time.
//
//	zstd stream of parts, each a varint v and what it says:
//	    v even          v/2 bytes of the tar follow
//	    v odd           the next object, of v/2 bytes, comes here
//	32 bytes for each object, in the order of the tar: its SHA-256
//	length of the zstd stream, number of objects   8 bytes each, little-endian
//	SHA-256 of the tar                             32 bytes
//	"CTRECIP" 1
//
// The names stand apart since a file's is known only after later headers were read.
const (
	recipeMagic = "CTRECIP\x01"
	recipeTail  = 8 + 8 + 32 + len(recipeMagic)
	recipePart  = 64 << 10 // bytes of the tar in a part, at most
)

// scribe writes a recipe while a tar is read.
type scribe struct {
	out     *bufio.Writer
	written *countWriter
	z       *zstd.Encoder
	part    []byte
	items   []int32 // whose objects the tar has, in its order
	err     error
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newScribe(w io.Writer) (*scribe, error) {
	s := &scribe{part: make([]byte, 0, recipePart)}
	s.out = bufio.NewWriterSize(w, recipePart)
	s.written = &countWriter{w: s.out}
	var err error
	// One window of 256 KiB holds some hundred headers: enough to find what they share.
	s.z, err = zstd.NewWriter(s.written, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(256<<10))
	return s, err
}

// bytes adds bytes of the tar.
func (s *scribe) bytes(b []byte) {
	for len(b) > 0 {
		if len(s.part) == recipePart {
			s.flush()
		}
		n := min(len(b), recipePart-len(s.part))
		s.part = append(s.part, b[:n]...)
		b = b[n:]
	}
}

func (s *scribe) flush() {
	if len(s.part) > 0 {
		s.put(uint64(len(s.part))<<1, s.part)
		s.part = s.part[:0]
	}
}

// object adds the object of an item.
func (s *scribe) object(item int, size int64) {
	s.flush()
	s.put(uint64(size)<<1|1, nil)
	s.items = append(s.items, int32(item))
}

func (s *scribe) put(v uint64, b []byte) {
	if s.err == nil {
		_, s.err = s.z.Write(binary.AppendUvarint(nil, v))
	}
	if s.err == nil {
		_, s.err = s.z.Write(b)
	}
}

// finish writes what is known at the end only.
func (s *scribe) finish(objectOf func(item int32) oci.Digest, diffID oci.Digest) error {
	s.flush()
	if err := s.z.Close(); s.err == nil {
		s.err = err
	}
	tail := binary.LittleEndian.AppendUint64(nil, uint64(s.written.n))
	tail = binary.LittleEndian.AppendUint64(tail, uint64(len(s.items)))
	for _, item := range s.items {
		s.name(objectOf(item))
	}
	// The length is that of the zstd stream: names go past the counter.
	if s.err == nil {
		_, s.err = s.out.Write(tail)
	}
	s.name(diffID)
	if s.err == nil {
		_, s.err = s.out.WriteString(recipeMagic)
	}
	if s.err == nil {
		s.err = s.out.Flush()
	}
	return s.err
}

// name writes the 32 bytes of a digest.
func (s *scribe) name(d oci.Digest) {
	b, err := hex.DecodeString(d.Hex())
	if err == nil && len(b) != sha256.Size {
		err = errs.Newf(errs.Internal, "write recipe", string(d), "not a sha256 digest")
	}
	if s.err == nil {
		s.err = err
	}
	if s.err == nil {
		_, s.err = s.out.Write(b)
	}
}

const opRebuild = "rebuild layer"

// Rebuild writes the tar of a recipe to w; open opens objects by name. It ends with an
// error of kind Corrupt if what was written is not the tar that the recipe was made of.
func Rebuild(recipe io.ReaderAt, size int64, open func(oci.Digest) (io.ReadCloser, error), w io.Writer) error {
	tail := make([]byte, recipeTail)
	if size < int64(len(tail)) {
		return badRecipe("is too short")
	}
	if _, err := recipe.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return errs.Wrap(opRebuild, "", err)
	}
	if !bytes.HasSuffix(tail, []byte(recipeMagic)) {
		return badRecipe("is of no version that this build knows")
	}
	packed, count := binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint64(tail[8:])
	rest := uint64(size) - uint64(len(tail))
	if packed > rest || count > math.MaxInt64/sha256.Size || rest-packed != count*sha256.Size {
		return badRecipe("does not add up")
	}
	z, err := zstd.NewReader(io.NewSectionReader(recipe, 0, int64(packed)), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return errs.Wrap(opRebuild, "", err)
	}
	defer z.Close()
	b := &builder{
		parts: bufio.NewReader(z),
		names: bufio.NewReader(io.NewSectionReader(recipe, int64(packed), int64(count)*sha256.Size)),
		open:  open,
		buf:   make([]byte, 128<<10),
	}
	sum := sha256.New()
	b.w = io.MultiWriter(sum, w)
	for more := true; more; {
		if more, err = b.part(); err != nil {
			return errs.Wrap(opRebuild, "", err)
		}
	}
	if !bytes.Equal(sum.Sum(nil), tail[16:16+sha256.Size]) {
		return badRecipe("gives another tar than it was made of")
	}
	return nil
}

func badRecipe(why string) error {
	return errs.Newf(errs.Corrupt, opRebuild, "", "the recipe "+why)
}

type builder struct {
	parts *bufio.Reader
	names *bufio.Reader
	open  func(oci.Digest) (io.ReadCloser, error)
	w     io.Writer
	buf   []byte
}

// part writes the next part, if there is one.
func (b *builder) part() (more bool, err error) {
	v, err := binary.ReadUvarint(b.parts)
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, badRecipe("is damaged: " + err.Error())
	}
	if v&1 == 1 {
		return true, b.object(int64(v >> 1))
	}
	if v>>1 > recipePart {
		return false, badRecipe("has a part that is too long")
	}
	part := b.buf[:v>>1]
	if _, err := io.ReadFull(b.parts, part); err != nil {
		return false, badRecipe("is damaged: " + err.Error())
	}
	_, err = b.w.Write(part)
	return true, err
}

func (b *builder) object(size int64) error {
	var name [sha256.Size]byte
	if _, err := io.ReadFull(b.names, name[:]); err != nil {
		return badRecipe("names fewer objects than it uses")
	}
	d := oci.Digest("sha256:" + hex.EncodeToString(name[:]))
	f, err := b.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{b.w}, struct{ io.Reader }{f}, b.buf)
	if err == nil && n != size {
		return errs.Newf(errs.Corrupt, opRebuild, string(d), "the object has not its size")
	}
	return err
}
