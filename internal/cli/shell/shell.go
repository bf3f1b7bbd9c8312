// Package shell is what every verb of the command line has in hand: the streams of the process,
// the engine, and one way of saying things and of printing values as the user likes.
//
// Families of verbs are packages beside this one. Each of their verbs is a function from a
// Shell to a cobra.Command that does nothing but declare; package cli has the table of all.
package shell

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Env is the process that a command line is carried out in.
type Env struct {
	Stdin, Stdout, Stderr *os.File
	LookupEnv             func(name string) (string, bool)
	UID                   int

	Supplier engine.Supplier // brings images; nil: corten-image is started for that
}

// Shell is one command line while it is carried out.
type Shell struct {
	Env
	Args      []string // as they were typed
	Root, Run string   // the folders that flags name; empty: see Folders
	Debug     bool     // show where in Corten an error arose
}

// Exit is an error that ends the command with a code of its own.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string { return e.Err.Error() }
func (e *Exit) Unwrap() error { return e.Err }

// Misused marks an error as one of the user's in writing the command line.
func Misused(err error) error { return &Exit{125, err} }

// WantArgs checks the number of arguments; most may be -1 for any number.
func WantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		why := ""
		switch n := len(args); {
		case n < least:
			why = "too few arguments"
		case most >= 0 && n > most:
			why = "too many arguments"
		default:
			return nil
		}
		return errs.Newf(errs.Invalid, "", cmd.CommandPath(), why).WithHint("write " + cmd.UseLine())
	}
}
