package criu

import (
	"encoding/binary"
	"errors"
)

// message is a message of protocol buffers under construction, as far as CRIU's have it: numbers, texts
// and messages in messages. A field is left out if it is false, 0 or empty: CRIU takes it so.
type message []byte

func (m *message) tag(field, kind uint64) { *m = binary.AppendUvarint(*m, field<<3|kind) }

// number adds a number, and 0 as well.
func (m *message) number(field uint64, v int64) {
	m.tag(field, 0)
	*m = binary.AppendUvarint(*m, uint64(v))
}

func (m *message) flag(field uint64, on bool) {
	if on {
		m.number(field, 1)
	}
}

func (m *message) text(field uint64, s string) {
	if s != "" {
		m.part(field, message(s))
	}
}

func (m *message) texts(field uint64, list []string) {
	for _, s := range list {
		m.text(field, s)
	}
}

func (m *message) part(field uint64, p message) {
	m.tag(field, 2)
	*m = append(binary.AppendUvarint(*m, uint64(len(p))), p...)
}

var errWire = errors.New("it is no message of protocol buffers")

// fields calls f for each field of a message: of kind 0 n is its number, of others text is what it holds.
func fields(b []byte, f func(field, n uint64, kind int, text []byte)) error {
	for len(b) > 0 {
		tag, l := binary.Uvarint(b)
		if l <= 0 {
			return errWire
		}
		b = b[l:]
		switch tag & 7 {
		case 0:
			n, l := binary.Uvarint(b)
			if l <= 0 {
				return errWire
			}
			f(tag>>3, n, 0, nil)
			b = b[l:]
		case 1, 5:
			size := 8
			if tag&7 == 5 {
				size = 4
			}
			if len(b) < size {
				return errWire
			}
			f(tag>>3, 0, int(tag&7), b[:size])
			b = b[size:]
		case 2:
			n, l := binary.Uvarint(b)
			if l <= 0 || n > uint64(len(b)-l) {
				return errWire
			}
			f(tag>>3, 0, 2, b[l:l+int(n)])
			b = b[l+int(n):]
		default:
			return errWire
		}
	}
	return nil
}
