// Package shell is what every verb of the command line has in hand: the streams of the process,
// the engine, and one way of saying things and of printing values as the user likes.
//
// Families of verbs are packages beside this one. Each of their verbs is a function from a
// Shell to a cobra.Command that does nothing but declare; package cli has the table of all.
// This package knows nothing of cobra: the program corten, whose every start would pay for it, does not link it.
package shell

import (
	"os"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

// Env is the process that a command line is carried out in.
type Env struct {
	Stdin, Stdout, Stderr *os.File
	LookupEnv             func(name string) (string, bool)
	UID                   int   // of the user, also where he is root of a user namespace
	Refused               error // why an ordinary user has no namespace for containers; nil: he has

	Supplier engine.Supplier // brings images; nil: corten-image is started for that
}

// Process is the environment of this process.
func Process() Env {
	return Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, UID: nest.Caller()}
}

// Shell is one command line while it is carried out.
type Shell struct {
	Env
	Args      []string // as they were typed
	Root, Run string   // the folders that flags name; empty: see Folders
	Debug     bool     // show where in Corten an error arose
}

// BindGlobal adds the flags that stand before the verb or among its own.
func (s *Shell) BindGlobal(set *pflag.FlagSet) {
	set.SortFlags = false
	set.StringVar(&s.Root, "root", "", "Keep lasting state in `FOLDER` (default $CORTEN_ROOT or /var/lib/corten)")
	set.StringVar(&s.Run, "run", "", "Keep what a reboot forgets in `FOLDER` (default $CORTEN_RUN or /run/corten)")
	set.BoolVar(&s.Debug, "debug", false, "Show where in Corten an error arose")
}
