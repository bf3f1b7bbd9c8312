package resolve

import "encoding/binary"

// A message is a header of 12 bytes, the question, and records (RFC 1035, 4.1). What is read of
// one that came is the question and how much its asker takes. It is done by hand, on the bytes,
// since nothing of it may be garbage: dnsmessage checks it in the tests.

const headerLen = 12

// Bits of the header's second pair of bytes.
const (
	flagResponse      = 1 << 15
	flagAuthoritative = 1 << 10
	flagTruncated     = 1 << 9
	flagDesired       = 1 << 8 // recursion
	flagAvailable     = 1 << 7
	opcodes           = 15 << 11
	codes             = 15
)

// Codes of answers; badVersion is one of EDNS and does not fit the header.
const (
	noError        = 0
	formatError    = 1
	serverFailure  = 2
	nameError      = 3
	notImplemented = 4
	refused        = 5
	badVersion     = 16
)

// Types and classes.
const (
	typeA    = 1
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	classIN  = 1
	classANY = 255
)

// Sizes of datagrams, in bytes. What is passed on to a container goes by its interface lo, so
// nothing is lost by pieces.
const (
	smallest = 512  // what everybody takes
	largest  = 4096 // what is taken, and so the most that is answered
)

// ttl is how long an answer may be kept, in seconds. A container that is replaced has another
// address; a program that asks before each connection asks once a second. Not 0, which some who
// keep answers take for an error.
const ttl = 1

// maxName is the length of the longest name with dots, in bytes: 255 as it is in a message.
const maxName = 253

// question is what is asked.
type question struct {
	id, flags   uint16
	kind, class uint16
	end         int           // of the question in the message; 0: there was none that can be read
	name        [maxName]byte // with dots, in lower case
	length      int           // of name
	plain       bool          // the name can be one of a container
	size        int           // how much may be answered, bytes
	extended    bool          // there is an OPT record
	secure      bool          // its DO bit
}

// parse reads a message. It returns noError or what is wrong with it; -1: it is not to be answered.
func (q *question) parse(b []byte) int {
	if len(b) < headerLen {
		return -1
	}
	be := binary.BigEndian
	q.id, q.flags, q.end, q.length = be.Uint16(b), be.Uint16(b[2:]), 0, 0
	q.size, q.extended, q.secure = smallest, false, false
	switch {
	case q.flags&flagResponse != 0:
		return -1
	case q.flags&opcodes != 0:
		return notImplemented
	case be.Uint16(b[4:]) != 1:
		return formatError
	}
	at := q.readName(b)
	if at == 0 || len(b) < at+4 {
		return formatError
	}
	q.kind, q.class, q.end = be.Uint16(b[at:]), be.Uint16(b[at+2:]), at+4
	return q.readRecords(b, int(be.Uint16(b[6:]))+int(be.Uint16(b[8:]))+int(be.Uint16(b[10:])))
}

// readName reads the name of the question and returns where it ends; 0: it has no end.
func (q *question) readName(b []byte) int {
	q.plain = true
	for at := headerLen; at < len(b); {
		n := int(b[at])
		at++
		if n == 0 {
			return at
		}
		if n > 63 || at+n > len(b) || q.length+1+n > maxName {
			return 0
		}
		if q.length > 0 {
			q.name[q.length] = '.'
			q.length++
		}
		for _, c := range b[at : at+n] {
			if c <= ' ' || c >= 0x7f || c == '.' || c == '/' {
				q.plain = false
			}
			q.name[q.length] = lower(c)
			q.length++
		}
		at += n
	}
	return 0
}

// readRecords looks for the record OPT (RFC 6891) among those that follow the question.
func (q *question) readRecords(b []byte, n int) int {
	be := binary.BigEndian
	at := q.end
	for range n {
		begin := at
		if at = skipName(b, at); at == 0 || at+10 > len(b) {
			return formatError
		}
		kind, class, bits := be.Uint16(b[at:]), be.Uint16(b[at+2:]), be.Uint32(b[at+4:])
		if at += 10 + int(be.Uint16(b[at+8:])); at > len(b) {
			return formatError
		}
		if kind != typeOPT {
			continue
		}
		if q.extended || b[begin] != 0 {
			return formatError
		}
		q.extended, q.secure, q.size = true, bits&(1<<15) != 0, min(max(int(class), smallest), largest)
		if bits>>16&0xff != 0 {
			return badVersion
		}
	}
	return noError
}

// skipName returns where a name ends; 0: it does not.
func skipName(b []byte, at int) int {
	for at < len(b) {
		n := int(b[at])
		switch {
		case n == 0:
			return at + 1
		case n >= 0xc0: // the rest is elsewhere
			return at + 2
		case n > 63:
			return 0
		}
		at += n + 1
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// begin appends the header of an answer and the question as it was asked to an empty message.
func (q *question) begin(out, asked []byte, code int) []byte {
	be := binary.BigEndian
	flags := flagResponse | flagAvailable | q.flags&(opcodes|flagDesired) | uint16(code&codes)
	if code == noError || code == nameError {
		flags |= flagAuthoritative
	}
	count := uint16(0)
	if q.end > 0 {
		count = 1
	}
	out = be.AppendUint16(out, q.id)
	out = be.AppendUint16(out, flags)
	out = be.AppendUint16(out, count)
	out = append(out, 0, 0, 0, 0, 0, 0)
	if q.end > 0 {
		out = append(out, asked[headerLen:q.end]...)
	}
	return out
}

// record appends the head of an answer to the question.
func (q *question) record(out []byte, length int) []byte {
	be := binary.BigEndian
	out = append(out, 0xc0, headerLen) // the name of the question
	out = be.AppendUint16(out, q.kind)
	out = be.AppendUint16(out, classIN)
	out = be.AppendUint32(out, ttl)
	return be.AppendUint16(out, uint16(length))
}

// recordLen is the length of what record appends.
const recordLen = 12

// optLen is how long the record is that finish appends.
const optLen = 11

// finish counts answers and appends the record OPT, if the asker has sent one.
func (q *question) finish(out []byte, answers, code int) []byte {
	be := binary.BigEndian
	be.PutUint16(out[6:], uint16(answers))
	if !q.extended {
		return out
	}
	be.PutUint16(out[10:], 1)
	secure := byte(0)
	if q.secure {
		secure = 1 << 7
	}
	out = append(out, 0, 0, typeOPT)
	out = be.AppendUint16(out, largest)
	return append(out, byte(code>>4), 0, secure, 0, 0, 0)
}

// refuse is an answer that only says a code.
func (q *question) refuse(out, asked []byte, code int) []byte {
	return q.finish(q.begin(out, asked, code), 0, code)
}

// answers reports whether a message is an answer to the question that asked is, under the number
// id. Servers may change the case of a name.
func answers(b, asked []byte, id uint16) bool {
	be := binary.BigEndian
	if len(b) < headerLen || be.Uint16(b) != id || b[2]&(flagResponse>>8) == 0 || (b[2]^asked[2])&(opcodes>>8) != 0 {
		return false
	}
	if be.Uint16(b[4:]) == 0 { // an error that has no question in it
		return b[3]&codes != noError
	}
	end := skipName(asked, headerLen) + 4
	if be.Uint16(b[4:]) != 1 || len(b) < end {
		return false
	}
	for i, c := range asked[headerLen:end] {
		if d := b[headerLen+i]; c != d && lower(c) != lower(d) {
			return false
		}
	}
	return true
}

// code is the code of a message.
func code(b []byte) int { return int(b[3] & codes) }
