// Package errs is the one shape in which Corten reports that something did not work.
//
// An error says which operation met which object and why, each fact once, and may carry
// a hint: what the user can do next. Errors are made where the facts are known, wrapped
// only to add a fact, and turned into an exit code or a status code by one table per face.
package errs

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// Kind says what sort of trouble it is, for a face to choose its code by.
type Kind uint8

// The kinds, from the least to the most specific about who has to act.
const (
	Other       Kind = iota // no more is known
	Invalid                 // the request itself is wrong: the caller must change it
	NotFound                // the object does not exist
	Exists                  // the object exists already
	Denied                  // not permitted, or not authenticated
	Unsupported             // this kernel, host or build cannot do it
	Busy                    // the object is in use
	Corrupt                 // bytes are not what their digest or format promises
	Unavailable             // a peer did not answer; trying again may help
	NoSpace                 // a disk, quota or table is full
	Canceled                // the caller gave up
	Internal                // a bug of ours
)

var kindNames = [...]string{"error", "invalid", "not found", "already exists", "not permitted", "not supported",
	"in use", "corrupt", "unavailable", "no space left", "canceled", "internal error"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Other]
}

// Error is an operation, the object it met, a kind and a cause. Any of them may be empty.
type Error struct {
	Op     string // a verb phrase in lower case: "pull", "mount proc"
	Object string // the name, path or digest it was about
	Kind   Kind
	Err    error  // the cause; nil when Kind says it all
	Hint   string // what to do next: a sentence without the final stop; may be empty
}

// New returns an error about object while doing op. A nil cause is allowed: then the kind
// is the message.
func New(kind Kind, op, object string, cause error) *Error {
	return &Error{Op: op, Object: object, Kind: kind, Err: cause}
}

// Newf is New with a cause that is only a text.
func Newf(kind Kind, op, object, text string) *Error {
	return New(kind, op, object, errors.New(text))
}

// Wrap adds op and object to err and keeps its kind. Wrap(nil) is nil.
func Wrap(op, object string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Object: object, Kind: KindOf(err), Err: err}
}

// WithHint sets the hint and returns the same error.
func (e *Error) WithHint(hint string) *Error {
	e.Hint = hint
	return e
}

// Error joins operation, object and cause with ": ", leaving out what is empty.
func (e *Error) Error() string {
	var b strings.Builder
	add := func(s string) {
		if s == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s)
	}
	head := e.Op
	if e.Object != "" {
		head = strings.TrimSpace(head + " " + e.Object)
	}
	add(head)
	if e.Err != nil {
		add(e.Err.Error())
	} else {
		add(e.Kind.String())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the outermost kind other than Other; failing that it judges the system
// call error at the bottom.
func KindOf(err error) Kind {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*Error); ok && x.Kind != Other {
			return x.Kind
		}
	}
	return kindOfCause(err)
}

func kindOfCause(err error) Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	case errors.Is(err, fs.ErrExist):
		return Exists
	case errors.Is(err, fs.ErrPermission):
		return Denied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EOPNOTSUPP):
		return Unsupported
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ETXTBSY):
		return Busy
	}
	return Other
}

// HintOf returns the hint nearest to the cause: whoever knew most of the trouble knew
// best what to do about it.
func HintOf(err error) string {
	hint := ""
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*Error); ok && x.Hint != "" {
			hint = x.Hint
		}
	}
	return hint
}

// Is reports whether err is of the given kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
