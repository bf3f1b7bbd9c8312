package resolve

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// network is one of those whose names are known.
type network struct {
	name   string
	folder string // RUN/net/on/NAME
	suffix string // . and the name, in lower case
}

// What separates words, and labels.
var space, dot = []byte{' '}, []byte{'.'}

// finder looks names up in the files. Nothing is remembered from one question to the next.
type finder struct {
	networks []network
	turn     uint   // counts answers, so that each begins with another address
	path     []byte // where it looks
	entries  [2048]byte
	link     [1024]byte
}

func (f *finder) order(c Config) {
	f.networks = nil
	for _, name := range c.Networks {
		low := make([]byte, len(name))
		for i := range len(name) {
			low[i] = lower(name[i])
		}
		f.networks = append(f.networks, network{name, c.Folder + "/on/" + name, "." + string(low)})
	}
}

// answer appends the answer to a question that is about containers on our networks. known is
// false if it is not.
func (f *finder) answer(out, asked []byte, q *question) (_ []byte, known bool) {
	if q.class != classIN && q.class != classANY || !q.plain {
		return out, false
	}
	name := q.name[:q.length]
	var text [48]byte
	if address, ok := reversed(text[:0], name); ok {
		return f.answerReversed(out, asked, q, address)
	}
	for i := range f.networks {
		// As Docker does: the first network in order that has such an address.
		is, found := f.addresses(&out, asked, q, &f.networks[i], name)
		if found {
			return out, true
		}
		known = known || is
	}
	ours := false
	for i := range f.networks {
		n := &f.networks[i]
		short := len(name) - len(n.suffix)
		if short <= 0 || string(name[short:]) != n.suffix {
			continue
		}
		ours = true
		is, found := f.addresses(&out, asked, q, n, name[:short])
		if found {
			return out, true
		}
		known = known || is
	}
	switch {
	case known: // by an address of the other family, or without any
		return q.refuse(out, asked, noError), true
	case ours:
		return q.refuse(out, asked, nameError), true
	}
	return out, false
}

// addresses looks whether there is a name on a network, and appends the answer if there is an
// address of the kind that is asked for.
func (f *finder) addresses(out *[]byte, asked []byte, q *question, n *network, name []byte) (known, found bool) {
	f.path = append(append(append(append(f.path[:0], n.folder...), "/names/"...), name...), 0)
	dir, err := kernel.OpenPath(f.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, false
	}
	defer unix.Close(dir)
	b := q.begin(*out, asked, noError)
	first, count := len(b), 0
	for {
		m, err := unix.ReadDirent(dir, f.entries[:])
		if err != nil || m <= 0 {
			break
		}
		for e := f.entries[:m]; len(e) > direntName; {
			length := int(binary.NativeEndian.Uint16(e[direntLength:]))
			id := e[direntName:length]
			e = e[length:]
			n, err := kernel.ReadLink(dir, id[:bytes.IndexByte(id, 0)+1], f.link[:])
			if err != nil { // no container, or one that has just gone
				continue
			}
			known = true
			before := len(b)
			if b = q.address(b, f.link[:n]); len(b) > before {
				count++
			}
		}
	}
	if count == 0 {
		return known, false
	}
	f.turn++
	*out = q.complete(b, first, count, f.turn)
	return true, true
}

// Where things are in struct linux_dirent64, getdents64(2).
const (
	direntLength = 16
	direntName   = 19
)

// address appends the record of a container, as far as there is room for it.
func (q *question) address(b, text []byte) []byte {
	if len(b)+recordLen+16+optLen > maxMessage {
		return b
	}
	for len(text) > 0 {
		word, rest, _ := bytes.Cut(text, space)
		text = rest
		switch q.kind {
		case typeA:
			if a, ok := parse4(word); ok {
				return append(q.record(b, len(a)), a[:]...)
			}
		case typeAAAA:
			if a, ok := parse6(word); ok {
				return append(q.record(b, len(a)), a[:]...)
			}
		}
	}
	return b
}

// complete makes an answer of the records from first on, of which another one is the first each
// time: those that the asker takes.
func (q *question) complete(b []byte, first, count int, turn uint) []byte {
	records := b[first:]
	size := len(records) / count
	k := int(turn%uint(count)) * size
	slices.Reverse(records[:k])
	slices.Reverse(records[k:])
	slices.Reverse(records)
	room := q.size - first
	if q.extended {
		room -= optLen
	}
	if count*size > room {
		count = max(room/size, 0)
		b = b[:first+count*size]
		b[2] |= flagTruncated >> 8
	}
	return q.finish(b, count, noError)
}

// answerReversed answers for the name of an address: that of the container which has it, on one of
// our networks.
func (f *finder) answerReversed(out, asked []byte, q *question, address []byte) ([]byte, bool) {
	for i := range f.networks {
		n := &f.networks[i]
		f.path = append(append(append(append(f.path[:0], n.folder...), "/at/"...), address...), 0)
		m, err := kernel.ReadLink(unix.AT_FDCWD, f.path, f.link[:])
		if err != nil {
			continue
		}
		_, name, _ := bytes.Cut(f.link[:m], space) // ID NAME
		if len(name) == 0 {
			continue
		}
		if q.kind != typePTR {
			return q.refuse(out, asked, noError), true
		}
		name = append(append(name, '.'), n.name...)
		b := q.record(q.begin(out, asked, noError), len(name)+2)
		b, ok := appendName(b, name)
		if !ok {
			continue
		}
		return q.finish(b, 1, noError), true
	}
	return out, false
}

// appendName appends a name that is written with dots.
func appendName(b, name []byte) ([]byte, bool) {
	if len(name) > maxName {
		return b, false
	}
	for len(name) > 0 {
		label, rest, _ := bytes.Cut(name, dot)
		if name = rest; len(label) == 0 || len(label) > 63 {
			return b, false
		}
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0), true
}
