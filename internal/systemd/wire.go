package systemd

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// Kinds of messages, and the codes of header fields ("Message Format" in the D-Bus specification).
const (
	kindCall   = 1
	kindReturn = 2
	kindError  = 3
	kindSignal = 4

	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldError       = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// mostMessage is bytes of a message that is read. What systemd tells of a unit has a few thousand.
const mostMessage = 1 << 20

// fixed is bytes of a header before its fields, and the length of these.
const fixed = 16

// path and signature are strings of D-Bus with types of their own.
type (
	path      string
	signature string
)

// encoder writes values in our byte order, which is little.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) u32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) u64(v uint64) {
	e.align(8)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) text(s string) {
	e.u32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0)
}

// array writes an array, whose elements are aligned to n bytes; add writes them.
func (e *encoder) array(n int, add func()) {
	e.u32(0)
	at := len(e.b)
	e.align(n)
	begin := len(e.b)
	add()
	binary.LittleEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-begin))
}

// value writes a value and returns its type. What it cannot write it does not write: "".
func (e *encoder) value(v any) string {
	switch v := v.(type) {
	case bool:
		n := uint32(0)
		if v {
			n = 1
		}
		e.u32(n)
		return "b"
	case byte:
		e.b = append(e.b, v)
		return "y"
	case int32:
		e.u32(uint32(v))
		return "i"
	case uint32:
		e.u32(v)
		return "u"
	case int64:
		e.u64(uint64(v))
		return "x"
	case uint64:
		e.u64(v)
		return "t"
	case float64:
		e.u64(math.Float64bits(v))
		return "d"
	case string:
		e.text(v)
		return "s"
	case path:
		e.text(string(v))
		return "o"
	case signature:
		e.signature(string(v))
		return "g"
	case []byte:
		e.array(1, func() { e.b = append(e.b, v...) })
		return "ay"
	case []uint32:
		e.array(4, func() {
			for _, n := range v {
				e.u32(n)
			}
		})
		return "au"
	case []string:
		e.array(4, func() {
			for _, s := range v {
				e.text(s)
			}
		})
		return "as"
	case []Property:
		e.array(8, func() {
			for _, p := range v {
				e.align(8)
				e.text(p.Name)
				e.variant(p.Value)
			}
		})
		return "a(sv)"
	case auxiliary:
		e.array(8, func() {})
		return "a(sa(sv))"
	}
	return ""
}

// auxiliary is the further units that StartTransientUnit takes: none.
type auxiliary struct{}

// variant writes a value with its type before it.
func (e *encoder) variant(v any) {
	kind := (&encoder{}).value(v)
	e.signature(kind)
	e.value(v)
}

// call writes a message that calls a method of systemd, or of the bus itself.
func call(serial uint32, to string, object path, iface, method string, args []any) []byte {
	body, kinds := &encoder{}, ""
	for _, a := range args {
		kinds += body.value(a)
	}
	e := &encoder{b: []byte{'l', kindCall, 0, 1}}
	e.u32(uint32(len(body.b)))
	e.u32(serial)
	e.array(8, func() {
		field := func(code byte, v any) {
			e.align(8)
			e.b = append(e.b, code)
			e.variant(v)
		}
		field(fieldPath, object)
		field(fieldInterface, iface)
		field(fieldMember, method)
		field(fieldDestination, to)
		if kinds != "" {
			field(fieldSignature, signature(kinds))
		}
	})
	e.align(8)
	return append(e.b, body.b...)
}

// message is one that was read.
type message struct {
	kind   byte
	reply  uint32 // the serial of the call that it answers
	member string
	fault  string // the name of an error
	texts  []string
}

var errWire = errors.New("it is no message of D-Bus")

// size is the number of bytes of a message, by its first ones.
func size(head []byte) (int, error) {
	if len(head) < fixed || head[0] != 'l' || head[3] != 1 {
		return 0, errWire
	}
	fields, body := binary.LittleEndian.Uint32(head[12:]), binary.LittleEndian.Uint32(head[4:])
	if fields > mostMessage || body > mostMessage {
		return 0, errWire
	}
	return fixed + int(fields+7)&^7 + int(body), nil
}

// decode reads a message of which all is there. Of its body it takes what is text, up to the first
// value that is neither that nor a number.
func decode(b []byte) (message, error) {
	n, err := size(b)
	if err != nil || n != len(b) {
		return message{}, errWire
	}
	m := message{kind: b[1]}
	body := n - int(binary.LittleEndian.Uint32(b[4:]))
	d := &decoder{b: b[:fixed+int(binary.LittleEndian.Uint32(b[12:]))], at: fixed}
	kinds := ""
	for d.at < len(d.b) && !d.bad {
		d.align(8)
		code := d.byte()
		kind := d.signature()
		text, number := d.value(kind)
		switch code {
		case fieldMember:
			m.member = text
		case fieldError:
			m.fault = text
		case fieldReplySerial:
			m.reply = number
		case fieldSignature:
			kinds = text
		}
	}
	if d.bad {
		return message{}, errWire
	}
	d = &decoder{b: b[body:]}
	for _, kind := range strings.Split(kinds, "") {
		if kind == "v" {
			kind = d.signature()
		}
		if !strings.Contains("sogub", kind) || kind == "" {
			break
		}
		text, _ := d.value(kind)
		if d.bad {
			return message{}, errWire
		}
		if kind == "s" || kind == "o" {
			m.texts = append(m.texts, text)
		}
	}
	return m, nil
}

// decoder reads values. Once something is wrong, bad stays.
type decoder struct {
	b   []byte
	at  int
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b)-d.at {
		d.bad = true
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) align(n int) { d.take((n - d.at%n) % n) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	d.align(4)
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// text reads n bytes and the zero after them.
func (d *decoder) text(n int) string {
	b := d.take(n)
	if d.byte() != 0 {
		d.bad = true
	}
	return string(b)
}

func (d *decoder) signature() string { return d.text(int(d.byte())) }

// value reads a value of a simple type.
func (d *decoder) value(kind string) (text string, number uint32) {
	switch kind {
	case "s", "o":
		return d.text(int(d.u32())), 0
	case "g":
		return d.signature(), 0
	case "u", "b", "i":
		return "", d.u32()
	}
	d.bad = true
	return "", 0
}
