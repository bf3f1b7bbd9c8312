package tree

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// The stored form of an Index, version 1. Numbers are varints as in encoding/binary, bytes
// are preceded by their count, sums are CRC-32C, little-endian.
//
//	"CLI" 1                   magic and version
//	diff-id bytes, size, count
//	count entries, sorted:
//	    head                  type in the low 4 bits, flags above
//	    shared, rest bytes    the path: so many bytes of the previous path, then these
//	    Hardlink:             target bytes
//	    all but Hardlink and Whiteout:
//	        mode
//	        uid gid           unless the flag says as before
//	        seconds nsec      unless the flag says as before; seconds as a signed difference
//	        Regular:          size, then 32 bytes of SHA-256 or the bytes themselves
//	        Symlink:          target bytes
//	        Char, Block:      major minor
//	        with attributes:  count, then name bytes, value bytes of each
//	sum of all before it
//
// Equal indexes have equal bytes. A reader refuses a version that it does not know; an
// index is made again from the layer's tar then.
const (
	codecMagic = "CLI\x01"

	headType    = 0x0f
	headVariant = 0x10 // Dir, Whiteout: opaque; Regular: an object, not inline
	headOwner   = 0x20 // same owner as the entry before that had one
	headTime    = 0x40 // same time as the entry before that had one
	headXattrs  = 0x80

	entryMin     = 3       // bytes: head, shared, length of rest
	pathBytesMax = 1 << 30 // bytes of all paths together, which a prefix can multiply
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Encode writes x down. x must keep what Check asks; that an object is not named by a
// SHA-256 is a bug of the caller's and panics.
func Encode(x *Index) []byte {
	w := encoder{b: make([]byte, 0, 128+64*len(x.Entries))}
	w.b = append(w.b, codecMagic...)
	w.str(string(x.DiffID))
	w.num(uint64(x.Size))
	w.num(uint64(len(x.Entries)))
	var before Entry
	for i := range x.Entries {
		w.entry(&x.Entries[i], &before)
	}
	return binary.LittleEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli()))
}

type encoder struct{ b []byte }

func (w *encoder) num(v uint64)   { w.b = binary.AppendUvarint(w.b, v) }
func (w *encoder) str(s string)   { w.num(uint64(len(s))); w.b = append(w.b, s...) }
func (w *encoder) bytes(s []byte) { w.num(uint64(len(s))); w.b = append(w.b, s...) }

// entry appends e; before holds what the next entry may leave out and is brought up to date.
func (w *encoder) entry(e, before *Entry) {
	bare := e.Type == Hardlink || e.Type == Whiteout
	head := byte(e.Type)
	if e.Opaque || e.Object != "" {
		head |= headVariant
	}
	if !bare && e.UID == before.UID && e.GID == before.GID {
		head |= headOwner
	}
	if !bare && e.MTime == before.MTime && e.NSec == before.NSec {
		head |= headTime
	}
	if len(e.Xattrs) > 0 {
		head |= headXattrs
	}
	w.b = append(w.b, head)
	n := sharedLen(before.Path, e.Path)
	w.num(uint64(n))
	w.str(e.Path[n:])
	before.Path = e.Path
	if e.Type == Hardlink {
		w.str(e.Link)
	}
	if bare {
		return
	}
	w.num(uint64(e.Mode))
	if head&headOwner == 0 {
		w.num(uint64(e.UID))
		w.num(uint64(e.GID))
		before.UID, before.GID = e.UID, e.GID
	}
	if head&headTime == 0 {
		w.b = binary.AppendVarint(w.b, e.MTime-before.MTime) // wraps around, and back
		w.num(uint64(e.NSec))
		before.MTime, before.NSec = e.MTime, e.NSec
	}
	w.content(e)
	if head&headXattrs != 0 {
		w.num(uint64(len(e.Xattrs)))
		for _, a := range e.Xattrs {
			w.str(a.Name)
			w.bytes(a.Value)
		}
	}
}

func (w *encoder) content(e *Entry) {
	switch e.Type {
	case Regular:
		w.num(uint64(e.Size))
		if e.Object == "" {
			w.b = append(w.b, e.Inline...)
			return
		}
		var err error
		w.b, err = hex.AppendDecode(w.b, []byte(e.Object.Hex()))
		if err != nil || len(e.Object) != sha256Len {
			panic("tree: encode: object is not named by sha256: " + string(e.Object))
		}
	case Symlink:
		w.str(e.Link)
	case Char, Block:
		w.num(uint64(e.Major))
		w.num(uint64(e.Minor))
	}
}

const sha256Len = len("sha256:") + 64

func sharedLen(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i+16 <= n && a[i:i+16] == b[i:i+16] {
		i += 16
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// Decode reads what Encode wrote. The bytes may be anything: what it returns without an
// error passes Check.
func Decode(b []byte) (*Index, error) {
	x, why := decode(b)
	if why != "" {
		return nil, errs.Newf(errs.Corrupt, "decode layer index", "", why)
	}
	if err := x.check(); err != nil {
		return nil, err
	}
	return x, nil
}

func decode(b []byte) (x *Index, why string) {
	if !strings.HasPrefix(string(b[:min(len(b), len(codecMagic))]), codecMagic) {
		return nil, "not a layer index of a version this build knows"
	}
	body := b[:max(len(codecMagic), len(b)-4)]
	if len(b) < len(body)+4 || crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, "the checksum differs"
	}
	r := decoder{b: body[len(codecMagic):]}
	x = &Index{DiffID: oci.Digest(r.take(r.num(math.MaxInt32))), Size: int64(r.num(math.MaxInt64))}
	// No more entries are allocated than the bytes at hand could hold.
	count := r.num(uint64(len(r.b) / entryMin))
	if r.bad {
		return nil, "the head is damaged"
	}
	if x.DiffID != "" && !x.DiffID.Valid() {
		return nil, "the diff id is not a digest"
	}
	x.Entries = make([]Entry, count)
	var before Entry
	for i := range x.Entries {
		r.entry(&x.Entries[i], &before)
		if r.bad {
			return nil, "an entry is damaged"
		}
	}
	if len(r.b) > 0 {
		return nil, "bytes follow the last entry"
	}
	return x, ""
}

// decoder takes values off the front of b. After a bad one all is zero and bad is set.
type decoder struct {
	b         []byte
	bad       bool
	text      strings.Builder // where strings are put, many in one allocation
	pathBytes int
}

// num reads a number up to limit.
func (r *decoder) num(limit uint64) uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 && uint64(r.b[0]) <= limit {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *decoder) fail() { r.b, r.bad = nil, true }

// take reads n bytes. They are still the input's.
func (r *decoder) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// str keeps a and b, joined, as a string.
func (r *decoder) str(a string, b []byte) string {
	n := len(a) + len(b)
	if r.text.Cap()-r.text.Len() < n {
		r.text = strings.Builder{} // strings already made keep the old one alive
		r.text.Grow(max(n, 64<<10))
	}
	at := r.text.Len()
	r.text.WriteString(a)
	r.text.Write(b)
	return r.text.String()[at:]
}

func (r *decoder) bytes(limit uint64) []byte {
	v := r.take(r.num(limit))
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (r *decoder) entry(e, before *Entry) {
	h := r.take(1)
	if r.bad {
		return
	}
	head := h[0]
	e.Type = Type(head & headType)
	e.Opaque = head&headVariant != 0 && e.Type != Regular
	shared := r.num(uint64(len(before.Path)))
	e.Path = r.str(before.Path[:shared], r.take(r.num(PathMax)))
	before.Path = e.Path
	if r.pathBytes += len(e.Path); r.pathBytes > pathBytesMax || len(e.Path) > PathMax {
		r.fail()
	}
	if e.Type == Hardlink {
		e.Link = r.str("", r.take(r.num(PathMax)))
	}
	if e.Type == Hardlink || e.Type == Whiteout {
		if head&(headOwner|headTime|headXattrs) != 0 {
			r.fail()
		}
		return
	}
	e.Mode = uint16(r.num(math.MaxUint16))
	if head&headOwner == 0 {
		before.UID, before.GID = uint32(r.num(math.MaxUint32)), uint32(r.num(math.MaxUint32))
	}
	if head&headTime == 0 {
		d := r.num(math.MaxUint64)
		before.MTime += int64(d>>1) ^ -int64(d&1)
		before.NSec = uint32(r.num(math.MaxUint32))
	}
	e.UID, e.GID, e.MTime, e.NSec = before.UID, before.GID, before.MTime, before.NSec
	r.content(e, head&headVariant != 0)
	if head&headXattrs != 0 {
		r.xattrs(e)
	}
}

func (r *decoder) content(e *Entry, object bool) {
	switch e.Type {
	case Regular:
		e.Size = int64(r.num(math.MaxInt64))
		if object {
			var digits [sha256Len]byte
			copy(digits[:], "sha256:")
			hex.Encode(digits[len("sha256:"):], r.take(32))
			e.Object = oci.Digest(r.str("", digits[:]))
		} else if e.Size > InlineMax {
			r.fail()
		} else if e.Size > 0 {
			e.Inline = append([]byte(nil), r.take(uint64(e.Size))...)
		}
	case Symlink:
		e.Link = r.str("", r.take(r.num(PathMax)))
	case Char, Block:
		e.Major, e.Minor = uint32(r.num(math.MaxUint32)), uint32(r.num(math.MaxUint32))
	}
}

func (r *decoder) xattrs(e *Entry) {
	n := r.num(uint64(len(r.b)) / 2)
	e.Xattrs = make([]Xattr, n)
	for i := range e.Xattrs {
		e.Xattrs[i].Name = r.str("", r.take(r.num(XattrNameMax)))
		e.Xattrs[i].Value = r.bytes(XattrValueMax)
	}
	if n == 0 {
		r.fail() // the flag said that there are some
	}
}
