package cli

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Docker's exit codes.
const (
	exitError    = 1   // a verb did not do what it was asked
	exitUsage    = 125 // wrong flags; for run anything that Corten could not do
	exitDenied   = 126 // the container's command cannot be executed
	exitNotFound = 127 // the container's command does not exist
	exitSignal   = 128 // and the number of the signal
)

// exit is an error that ends the command with its own code. Without a cause nothing is
// said: the code is the container's.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return "exit"
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// exitOf is the exit code for err and what there is to say.
func exitOf(err error) (int, error) {
	var e *exit
	if errors.As(err, &e) {
		return e.code, e.err
	}
	if said := (*engine.Said)(nil); errors.As(err, &said) {
		return said.Code, nil
	}
	if x := (*shell.Exit)(nil); errors.As(err, &x) {
		return x.Code, x.Err
	}
	return exitError, err
}

func usage(err error) error { return &exit{exitUsage, err} }

// signaled is the end of a command by a signal that it caught.
func signaled(sig unix.Signal) error { return &exit{exitSignal + int(sig), nil} }

// runExit gives an error of run its code. An error of the step "execute" is about the
// command in the container; every other is Corten's own.
func runExit(err error) error {
	var e *exit
	if err == nil || errors.As(err, &e) {
		return err
	}
	if said := (*engine.Said)(nil); errors.As(err, &said) {
		return &exit{exitUsage, nil}
	}
	if !executing(err) {
		return &exit{exitUsage, err}
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return &exit{exitNotFound, err}
	default:
		return &exit{exitDenied, err}
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
