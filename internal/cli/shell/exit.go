package shell

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Docker's exit codes.
const (
	ExitError    = 1   // a verb did not do what it was asked
	ExitUsage    = 125 // wrong flags; for run anything that Corten could not do
	ExitDenied   = 126 // the container's command cannot be executed
	ExitNotFound = 127 // the container's command does not exist
	ExitSignal   = 128 // and the number of the signal
)

// Exit is an error that ends the command with a code of its own. Without a cause nothing is
// said: the code is the container's.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return "exit"
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// ExitOf is the exit code for err and what there is to say.
func ExitOf(err error) (int, error) {
	var e *Exit
	if errors.As(err, &e) {
		return e.Code, e.Err
	}
	if said := (*engine.Said)(nil); errors.As(err, &said) {
		return said.Code, nil
	}
	return ExitError, err
}

// Exit says what went wrong, if anything did, and is the code to end with.
func (s *Shell) Exit(err error) int {
	if err == nil {
		return 0
	}
	if argv, env := engine.InScope(err, s.Args); argv != nil {
		err = errors.Join(err, errs.Wrap("execute", argv[0], unix.Exec(argv[0], argv, append(os.Environ(), env))))
	}
	code, err := ExitOf(err)
	if err != nil {
		s.SayError(err)
	}
	return code
}

// Misused marks an error as one of the user's in writing the command line.
func Misused(err error) error { return &Exit{ExitUsage, err} }

// Signaled is the end of a command by a signal that it caught.
func Signaled(sig unix.Signal) error { return &Exit{ExitSignal + int(sig), nil} }

// RunExit gives an error of run its code. An error of the step "execute" is about the
// command in the container; every other is Corten's own.
func RunExit(err error) error {
	var e *Exit
	if err == nil || errors.As(err, &e) {
		return err
	}
	if said := (*engine.Said)(nil); errors.As(err, &said) {
		return &Exit{ExitUsage, nil}
	}
	if !executing(err) {
		return &Exit{ExitUsage, err}
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return &Exit{ExitNotFound, err}
	default:
		return &Exit{ExitDenied, err}
	}
}

func executing(err error) bool {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if x, ok := e.(*errs.Error); ok && x.Op == "execute" {
			return true
		}
	}
	return false
}
