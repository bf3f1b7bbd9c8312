package testimage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// archive/tar reads sparse files but does not write them, so their entries are laid out
// here by hand, in the two forms that tar(1) writes: old GNU and PAX 1.0.

// extent is a run of data at an offset of a sparse file. Both fit a block's multiple.
type extent struct {
	offset int64
	data   []byte
}

const tarBlock = 512 // bytes; everything in a tar is padded to it

// gnuSparse is the entry of a file of size bytes in the old GNU form: type 'S', with up to
// four extents in the header itself (tar manual, "Storing Sparse Files", format 0.0's
// predecessor).
func gnuSparse(name string, size int64, extents ...extent) []byte {
	var body []byte
	h := header(name, 'S', 0)
	copy(h[257:265], "ustar  \x00") // magic and version of the GNU format
	for i, e := range append(slices.Clip(extents), extent{offset: size}) {
		octal(h[386+24*i:386+24*i+12], e.offset)
		octal(h[386+24*i+12:386+24*i+24], int64(len(e.data)))
		body = append(body, e.data...)
	}
	octal(h[483:495], size)
	octal(h[124:136], int64(len(body)))
	return append(seal(h), pad(body)...)
}

// paxSparse is the same in PAX form 1.0: the map of extents precedes the data.
func paxSparse(name string, size int64, extents ...extent) []byte {
	all := append(slices.Clip(extents), extent{offset: size})
	list := fmt.Sprintf("%d\n", len(all))
	var data []byte
	for _, e := range all {
		list += fmt.Sprintf("%d\n%d\n", e.offset, len(e.data))
		data = append(data, e.data...)
	}
	body := append(pad([]byte(list)), data...)

	records := []byte(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
		record("GNU.sparse.name", name) + record("GNU.sparse.realsize", fmt.Sprint(size)))
	out := append(seal(header("PaxHeaders/sparse", 'x', int64(len(records)))), pad(records)...)
	out = append(out, seal(header("GNUSparseFile.0/sparse", '0', int64(len(body))))...)
	return append(out, pad(body)...)
}

// record is one PAX record: its own length in decimal, a key and a value.
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for len(fmt.Sprint(n))+len(rest) != n {
		n++
	}
	return fmt.Sprint(n) + rest
}

func header(name string, kind byte, size int64) []byte {
	h := make([]byte, tarBlock)
	copy(h[:100], name)
	octal(h[100:108], 0o644)
	octal(h[108:116], 0)
	octal(h[116:124], 0)
	octal(h[124:136], size)
	octal(h[136:148], Created().Unix())
	h[156] = kind
	copy(h[257:265], "ustar\x0000")
	return h
}

// seal fills in the checksum: the sum of the header's bytes, its own field counted as blanks.
func seal(h []byte) []byte {
	copy(h[148:156], strings.Repeat(" ", 8))
	sum := int64(0)
	for _, b := range h {
		sum += int64(b)
	}
	octal(h[148:155], sum)
	return h
}

func octal(field []byte, v int64) {
	copy(field, fmt.Sprintf("%0*o\x00", len(field)-1, v))
}

func pad(b []byte) []byte {
	return append(b, bytes.Repeat([]byte{0}, (tarBlock-len(b)%tarBlock)%tarBlock)...)
}
