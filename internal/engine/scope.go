package engine

import (
	"os"
	"strconv"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/cgroup/scope"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/systemd"
)

// scoped is in the environment of a command that has been put in a scope of its own.
const scoped = "CORTEN_SCOPE"

// InScope is the command line, and what to add to the environment, by which a command is tried again
// that failed for the control groups of an ordinary user: a login session has none of its own, but his
// service manager has made this process a scope where he has. Nil: there is no such thing here, or err
// is about something else.
func InScope(err error, args []string) (argv []string, env string) {
	if !nest.Inside() || errs.HintOf(err) != cgroup.DelegateHint || os.Getenv(scoped) != "" {
		return nil, ""
	}
	m, merr := systemd.User(nest.Caller())
	if merr != nil {
		return nil, ""
	}
	defer m.Close()
	if scope.Around(m, os.Getpid(), "corten-"+strconv.Itoa(os.Getpid())+".scope") != nil {
		return nil, ""
	}
	return append([]string{programs.Corten()}, args...), scoped + "=1"
}
