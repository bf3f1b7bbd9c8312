package runflags

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// process is what runs and as whom.
type process struct {
	stdin, tty                           bool
	env, envFiles, groups, ulimits       []string
	cwd, user, entrypoint, oom, umaskOct string
}

func (f *process) bind(g group) {
	g.yesNo(&f.stdin, "interactive", "i", false, "Give the container corten's standard input")
	g.yesNo(&f.tty, "tty", "t", false, "Give the container a terminal")
	g.list(&f.env, "env", "e", "Set the variable `NAME[=VALUE]`; without a value it takes corten's own (repeatable)")
	g.list(&f.envFiles, "env-file", "", "Read variables, one a line, from `FILE` (repeatable)")
	g.text(&f.cwd, "workdir", "w", "Start in `DIR` of the container")
	g.text(&f.user, "user", "u", "Run as `USER[:GROUP]`, names of the container or numbers")
	g.list(&f.groups, "group-add", "", "Join another `GROUP` (repeatable)")
	g.text(&f.entrypoint, "entrypoint", "", "Run `COMMAND` instead of the image's entry point; empty for none")
	g.text(&f.umaskOct, "umask", "", "Set the file mode creation mask to `OCTAL` (default 0022)")
	g.list(&f.ulimits, "ulimit", "", "Set the resource limit `NAME=SOFT[:HARD]`, -1 for none (repeatable)")
	g.text(&f.oom, "oom-score-adj", "", "How soon the kernel kills it when memory runs out: `NUMBER` from -1000 to 1000")
}

func (f *process) fill(c *spec.Container, set *pflag.FlagSet, who Caller) error {
	p := &c.Process
	p.Terminal, p.Stdin, p.User = f.tty, f.stdin, f.user
	if f.cwd != "" && !strings.HasPrefix(f.cwd, "/") {
		return values.Bad("workdir", f.cwd, "not an absolute path", "write it from the container's root: /"+f.cwd)
	}
	p.Cwd = f.cwd
	for _, g := range f.groups {
		if g == "" {
			return values.Bad("group-add", g, "the group is empty", "write a name or a number")
		}
	}
	p.Groups = f.groups
	if f.entrypoint != "" {
		p.Entrypoint = []string{f.entrypoint}
	} else if set.Changed("entrypoint") {
		p.Entrypoint = []string{}
	}
	if f.umaskOct != "" {
		n, err := strconv.ParseUint(f.umaskOct, 8, 32)
		if err != nil || n > 0o777 {
			return values.Bad("umask", f.umaskOct, "not a mask", "write an octal number from 0 to 0777")
		}
		mask := uint32(n)
		p.Umask = &mask
	}
	if f.oom != "" {
		n, err := values.Int("oom-score-adj", f.oom, -1000, 1000)
		if err != nil {
			return err
		}
		score := int(n)
		p.OOMScore = &score
	}
	var err error
	if p.Env, err = f.environment(who); err != nil {
		return err
	}
	p.Rlimits, err = rlimitsOf(f.ulimits)
	return err
}

// environment puts the files first, so that a flag wins. NAME alone takes the caller's
// value; if the caller has none, --env NAME keeps the name alone, which takes the image's
// variable away, and a line of a file counts for nothing. All as Docker does.
func (f *process) environment(who Caller) ([]string, error) {
	var env []string
	add := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		same := func(e string) bool { n, _, _ := strings.Cut(e, "="); return n == name }
		if i := slices.IndexFunc(env, same); i >= 0 {
			env[i] = entry
			return
		}
		env = append(env, entry)
	}
	for _, file := range f.envFiles {
		lines, err := readLines("env-file", file)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l, ok := withValue(l, who); ok {
				add(l)
			}
		}
	}
	for _, e := range f.env {
		if e == "" || e[0] == '=' || strings.IndexByte(e, 0) >= 0 {
			return nil, values.Bad("env", e, "not a variable", "write --env NAME=VALUE, or --env NAME for corten's own value")
		}
		e, _ = withValue(e, who)
		add(e)
	}
	return env, nil
}

func withValue(entry string, who Caller) (string, bool) {
	if strings.Contains(entry, "=") {
		return entry, true
	}
	if v, ok := who.LookupEnv(entry); ok {
		return entry + "=" + v, true
	}
	return entry, false
}

// readLines reads a file of NAME=VALUE or NAME lines in Docker's format: blanks before a
// line, empty lines and lines that begin with # count for nothing; nothing is quoted.
func readLines(flag, file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "--"+flag, "", err).WithHint("name a file with one NAME=VALUE a line")
	}
	at := func(i int, why, hint string) error {
		return values.Bad(flag, file, "line "+strconv.Itoa(i+1)+": "+why, hint)
	}
	var out []string
	text := strings.TrimPrefix(string(data), "\ufeff")
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimLeftFunc(strings.TrimSuffix(l, "\r"), unicode.IsSpace)
		if l == "" || l[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(l, "=")
		switch {
		case !utf8.ValidString(l) || strings.IndexByte(l, 0) >= 0:
			return nil, at(i, "not UTF-8 text", "the file holds one NAME=VALUE a line")
		case name == "":
			return nil, at(i, "no name before the =", "the file holds one NAME=VALUE a line")
		case strings.ContainsAny(name, " \t"):
			return nil, at(i, "the name has a blank in it", "write NAME=VALUE without blanks around the =, and without export")
		}
		out = append(out, l)
	}
	return out, nil
}

const ulimitHint = "write --ulimit nofile=1024 or --ulimit nofile=1024:4096, the soft limit first"

// rlimitsOf reads NAME=SOFT[:HARD]. A limit that is given twice counts the last time.
func rlimitsOf(flags []string) ([]spec.Rlimit, error) {
	var out []spec.Rlimit
	for _, s := range flags {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, values.Bad("ulimit", s, "no value", ulimitHint)
		}
		name = strings.ToLower(name)
		if _, ok := plan.RlimitNumber(name); !ok {
			return nil, values.Bad("ulimit", s, "no such resource limit", "setrlimit(2) lists them; write nofile, not RLIMIT_NOFILE")
		}
		softText, hardText, both := strings.Cut(value, ":")
		if !both {
			hardText = softText
		}
		soft, ok1 := rlimitValue(softText)
		hard, ok2 := rlimitValue(hardText)
		if !ok1 || !ok2 {
			return nil, values.Bad("ulimit", s, "not a number", ulimitHint+"; -1 is no limit")
		}
		if soft > hard {
			return nil, values.Bad("ulimit", s, "the soft limit is above the hard limit", ulimitHint)
		}
		out = slices.DeleteFunc(out, func(r spec.Rlimit) bool { return r.Name == name })
		out = append(out, spec.Rlimit{Name: name, Soft: soft, Hard: hard})
	}
	return out, nil
}

func rlimitValue(s string) (uint64, bool) {
	if s == "-1" || s == "unlimited" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}
