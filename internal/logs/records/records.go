// Package records makes records of a log from what a container has written. A batch of them is
// written again by who finds the log torn, from the same bytes.
package records

import (
	"bytes"

	"github.com/cortenhq/corten/internal/logs"
)

// Format appends the records of b, which begins where a record does, to dst, and returns
// how much of b that was. It stops before a record that would make dst longer than limit,
// and before the last line if that has no newline yet; with flush that line is a record
// too.
//
// For the range of b that it took it would do the same again, whatever comes after: this is
// what makes the journal's few numbers enough.
func Format(dst, b []byte, time int64, s logs.Stream, limit int, flush bool) (out []byte, used int) {
	var full, part [logs.HeadLen]byte
	logs.AppendHead(full[:0], time, s, false)
	logs.AppendHead(part[:0], time, s, true)
	for used < len(b) {
		n, ended := Piece(b[used:], flush)
		if n < 0 || len(dst)+logs.HeadLen+n+1 > limit {
			break
		}
		if ended {
			dst = append(dst, full[:]...)
		} else {
			dst = append(dst, part[:]...)
		}
		dst = append(dst, b[used:used+n]...)
		dst = append(dst, '\n')
		used += n
		if ended {
			used++
		}
	}
	return dst, used
}

// Piece is how much of b is the content of the next record, and whether a newline ends it;
// -1: none yet.
func Piece(b []byte, flush bool) (n int, ended bool) {
	// One byte more than a record holds: a newline there makes the line whole.
	if n := bytes.IndexByte(b[:min(len(b), logs.MaxContent+1)], '\n'); n >= 0 {
		return n, true
	}
	if len(b) <= logs.MaxContent && !flush {
		return -1, false
	}
	return min(len(b), logs.MaxContent), false
}
