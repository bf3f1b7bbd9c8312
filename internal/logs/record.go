// Package logs is what containers have written: a folder of files in the CRI log format.
//
// A record is born when the keeper formats what came out of a container, and has one of
// four ends: its file becomes too old and is removed, or is compressed and then removed, or
// the container is removed, or a keeper that was killed had not written all of a batch, and
// the next one writes the same bytes over it. Nobody else ever changes a record: a reader
// may keep a position and come back to it.
//
// record.go is the format, layout.go the names of files, writer.go who writes them. The
// keeper links this package: it imports neither os nor fmt, and nothing that decompresses.
package logs

import "bytes"

// Stream is where a record came from.
type Stream uint8

// The streams of a container. A terminal is Stdout.
const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

const (
	// MaxContent is how much of a line one record holds, in bytes; the rest follows in more.
	MaxContent = 16 << 10
	// HeadLen is the length of what comes before the content. It is the same for every
	// record, so that a batch written again with its old time takes the same room.
	HeadLen = timeLen + len(" stdout F ")
	// MaxRecord is the longest record, with its newline.
	MaxRecord = HeadLen + MaxContent + 1

	timeLen = len("2006-01-02T15:04:05.000000000Z")
)

// Record is one line of a log file.
type Record struct {
	Time    int64 // ns since 1970, UTC
	Stream  Stream
	Partial bool   // tag P: the line goes on in the stream's next record
	Content []byte // without a newline
}

// Append appends r as a line to dst.
func Append(dst []byte, r Record) []byte {
	dst = AppendHead(dst, r.Time, r.Stream, r.Partial)
	dst = append(dst, r.Content...)
	return append(dst, '\n')
}

// AppendHead appends the HeadLen bytes before the content.
func AppendHead(dst []byte, ns int64, s Stream, partial bool) []byte {
	dst = AppendTime(dst, ns)
	dst = append(dst, ' ')
	dst = append(dst, s.String()...)
	if partial {
		return append(dst, " P "...)
	}
	return append(dst, " F "...)
}

// Parse reads a line, with or without its newline. The content is a part of the line, not
// a copy. Anything but what Append writes is no record: a line may be torn by a power cut.
func Parse(line []byte) (r Record, ok bool) {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if len(line) < HeadLen {
		return r, false
	}
	if r.Time, ok = ParseTime(line[:timeLen]); !ok {
		return r, false
	}
	switch string(line[timeLen:HeadLen]) {
	case " stdout F ":
	case " stdout P ":
		r.Partial = true
	case " stderr F ":
		r.Stream = Stderr
	case " stderr P ":
		r.Stream, r.Partial = Stderr, true
	default:
		return r, false
	}
	r.Content = line[HeadLen:]
	return r, bytes.IndexByte(r.Content, '\n') < 0
}

const (
	second = 1e9
	day    = 86400
)

// AppendTime appends a time in ns since 1970 as RFC 3339 with nine digits, UTC. Package
// time can do it too, at several times the cost and with digits that come and go. Years are
// those that an int64 reaches: 1677 to 2262.
func AppendTime(dst []byte, ns int64) []byte {
	s, frac := floorDiv(ns, second)
	days, clock := floorDiv(s, day)
	y, m, d := civil(days)
	dst = digits(dst, y, 4)
	dst = digits(append(dst, '-'), m, 2)
	dst = digits(append(dst, '-'), d, 2)
	dst = digits(append(dst, 'T'), clock/3600, 2)
	dst = digits(append(dst, ':'), clock/60%60, 2)
	dst = digits(append(dst, ':'), clock%60, 2)
	dst = digits(append(dst, '.'), frac, 9)
	return append(dst, 'Z')
}

// ParseTime reads what AppendTime writes, and nothing else.
func ParseTime(b []byte) (ns int64, ok bool) {
	const shape = "0000-00-00T00:00:00.000000000Z"
	if len(b) != len(shape) {
		return 0, false
	}
	for i := range shape {
		if shape[i] != '0' && b[i] != shape[i] || shape[i] == '0' && (b[i] < '0' || b[i] > '9') {
			return 0, false
		}
	}
	y, m, d := number(b[0:4]), number(b[5:7]), number(b[8:10])
	hour, minute, sec := number(b[11:13]), number(b[14:16]), number(b[17:19])
	if y < 1678 || y > 2261 || hour > 23 || minute > 59 || sec > 59 {
		return 0, false // the years on the edge have days that an int64 does not reach
	}
	days := daysOf(y, m, d)
	if y2, m2, d2 := civil(days); y2 != y || m2 != m || d2 != d {
		return 0, false // no such day
	}
	return ((days*24+hour)*60+minute)*60*second + sec*second + number(b[20:29]), true
}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

// civil is the date of a day counted from 1970-01-01, in the Gregorian calendar. Years begin
// in March here, so that the leap day is the last one; an era has 400 years.
func civil(days int64) (y, m, d int64) {
	days += 719468 // from 0000-03-01
	era, doe := floorDiv(days, 146097)
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	if m > 12 {
		m -= 12
	}
	y = era*400 + yoe
	if m <= 2 {
		y++
	}
	return y, m, d
}

// daysOf is the inverse of civil.
func daysOf(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	era, yoe := floorDiv(y, 400)
	doy := (153*(m-3)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

func digits(dst []byte, n int64, width int) []byte {
	dst = append(dst, "000000000"[:width]...)
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

func number(b []byte) (n int64) {
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n
}
