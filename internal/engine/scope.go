package engine

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/programs"
)

// scoped is in the environment of a command that has been put in a scope of its own.
const scoped = "CORTEN_SCOPE"

// InScope is the command line, and what to add to the environment, by which a command is tried again
// that failed for the control groups of an ordinary user: a login session has none of its own, but his
// service manager can make it a scope where he has. Nil: there is no such thing here, or err is about
// something else.
func InScope(err error, args []string) (argv []string, env string) {
	if !nest.Inside() || errs.HintOf(err) != cgroup.DelegateHint || os.Getenv(scoped) != "" {
		return nil, ""
	}
	manager := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd/private")
	run, err := exec.LookPath("systemd-run")
	if _, serr := os.Stat(manager); err != nil || serr != nil {
		return nil, ""
	}
	return append([]string{run, "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--", programs.Corten()}, args...), scoped + "=1"
}
