// Package attend is the part of the command line that stays with a container: it makes or
// enters one as the flags say, passes input, output and signals on, and ends as the container
// ends. It is what run, create, exec, attach and start have in common, without what reads
// their flags.
package attend

import (
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// attendant is a command line while it attends to a container.
type attendant struct {
	env   shell.Env    // the streams that the container's are copied to
	shell *shell.Shell // whose streams are our own
}

func newAttendant(s *shell.Shell) *attendant { return &attendant{s.Env, s} }

// endAs ends as the container did, or the command in it.
func (a *attendant) endAs(end engine.Exit) error {
	if end.Message != "" {
		a.shell.Say(end.Message)
	}
	if end.Code == 0 {
		return nil
	}
	return &shell.Exit{Code: end.Code}
}
