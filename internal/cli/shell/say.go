package shell

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/cortenhq/corten/internal/errs"
)

// The voice of Corten.
//
// What went wrong goes to stderr in one line that begins with "corten: error: ": the
// operation, the object and the cause, in lower case, without a full stop and without "failed
// to", "could not" or an apology. If the user can do something about it, a second line begins
// with "corten: hint: " and says what, as an order. A command that changes its meaning rather
// than fail says so after "corten: warning: ". What a script may want to read goes to stdout,
// and nothing else does.

// SayError says what went wrong, of several errors each.
func (s *Shell) SayError(err error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			s.SayError(e)
		}
		return
	}
	s.Say("error: " + err.Error())
	hint := errs.HintOf(err)
	if hint == "" && errs.Is(err, errs.Denied) && os.Geteuid() != 0 {
		hint = "run it as root"
	}
	if hint != "" {
		s.Say("hint: " + hint)
	}
	if !s.Debug {
		return
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*errs.Error); ok {
			s.Say(fmt.Sprintf("debug: operation %q, object %q, %v", x.Op, x.Object, x.Kind))
			continue
		}
		s.Say(fmt.Sprintf("debug: %T: %v", e, e))
	}
}

// Say writes one line to stderr. An image's names and texts may be in it, and must not
// command the terminal.
func (s *Shell) Say(text string) {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
	fmt.Fprintln(s.Stderr, "corten: "+clean)
}

// SayButLast says all of several errors but the last one, which is left to be returned.
func (s *Shell) SayButLast(err error) error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	list := several.Unwrap()
	for _, e := range list[:len(list)-1] {
		s.SayError(e)
	}
	return list[len(list)-1]
}

// Confirm asks the user; no answer is no.
func (s *Shell) Confirm(what string) bool {
	fmt.Fprint(s.Stderr, what+"\nAre you sure you want to continue? [y/N] ")
	answer := ""
	_, _ = fmt.Fscanln(s.Stdin, &answer)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}
