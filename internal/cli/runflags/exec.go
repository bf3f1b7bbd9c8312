package runflags

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
)

// ExecFlags are the flags of exec.
type ExecFlags struct {
	process            process
	detach, privileged bool
	keys               string
}

// BindExec adds the flags of exec to a set.
func BindExec(set *pflag.FlagSet) *ExecFlags {
	f := new(ExecFlags)
	p := &f.process
	set.BoolVarP(&p.stdin, "interactive", "i", false, "Give the command corten's standard input")
	set.BoolVarP(&p.tty, "tty", "t", false, "Give the command a terminal")
	set.BoolVarP(&f.detach, "detach", "d", false, "Do not wait for the command, and drop what it writes")
	set.StringArrayVarP(&p.env, "env", "e", nil, "Set the variable `NAME[=VALUE]`; without a value it takes corten's own (repeatable)")
	set.StringArrayVar(&p.envFiles, "env-file", nil, "Read variables, one a line, from `FILE` (repeatable)")
	set.StringVarP(&p.cwd, "workdir", "w", "", "Start in `DIR` of the container (default: the container's own)")
	set.StringVarP(&p.user, "user", "u", "", "Run as `USER[:GROUP]`, names of the container or numbers (default: the container's own)")
	set.BoolVar(&f.privileged, "privileged", false, "Give the command every capability over what is the container's")
	set.StringVar(&f.keys, "detach-keys", "", "Leave the command running when `KEYS` are typed (default ctrl-p,ctrl-q)")
	return f
}

// Request is what the flags ask for, and the keys to leave with.
func (f *ExecFlags) Request(command []string, who Caller) (engine.ExecRequest, string, error) {
	p := &f.process
	req := engine.ExecRequest{Args: command, User: p.user, Cwd: p.cwd, Terminal: p.tty, Stdin: p.stdin,
		Detached: f.detach, Privileged: f.privileged}
	if p.cwd != "" && !strings.HasPrefix(p.cwd, "/") {
		return req, "", values.Bad("workdir", p.cwd, "not an absolute path", "write it from the container's root: /"+p.cwd)
	}
	if f.detach && p.stdin {
		return req, "", values.Conflict("--detach", "--interactive", "nobody would send it anything")
	}
	var err error
	if req.Env, err = p.environment(who); err != nil {
		return req, "", err
	}
	keys, err := values.Keys(f.keys)
	return req, keys, err
}
