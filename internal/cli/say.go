package cli

import (
	"errors"
	"fmt"
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

func (a *app) sayError(err error) {
	a.say("error: " + err.Error())
	if hint := errs.HintOf(err); hint != "" {
		a.say("hint: " + hint)
	}
	if !a.debug {
		return
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*errs.Error); ok {
			a.say(fmt.Sprintf("debug: operation %q, object %q, %v", x.Op, x.Object, x.Kind))
			continue
		}
		a.say(fmt.Sprintf("debug: %T: %v", e, e))
	}
}

// say writes one line to stderr. An image's names and texts may be in it, and must not
// command the terminal.
func (a *app) say(text string) {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
	fmt.Fprintln(a.env.Stderr, "corten: "+clean)
}
