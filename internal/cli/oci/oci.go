// Package oci is the command line of corten-oci: that of runc and crun, which container engines know
// how to use.
//
// A verb is a function of a request: its flags are declared, read, and handed to package life. What
// other runtimes have and Corten has not is refused by name.
package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

// Version is that of Corten.
const Version = "0.1.0-dev"

// Specification is the newest version of the OCI runtime specification that is understood.
const Specification = "1.3.0"

// Exit codes.
const (
	exitError  = 1
	exitExec   = 255 // exec did not come to its command
	exitSignal = 128
)

// command is one call of the program.
type command struct {
	root     string
	log      string
	format   string
	debug    bool
	systemd  bool // it makes control groups
	rootless string
	stdout   io.Writer
	stderr   io.Writer
	ctx      context.Context
	code     int
}

// verb is an entry of the table. Its flags are its own.
type verb struct {
	name  string
	args  string // as usage shows them
	about string
	run   func(c *command, f *pflag.FlagSet, args []string) error
	flags func(f *pflag.FlagSet)
	least int  // of its arguments
	most  int  // -1: any number
	plain bool // what follows the first argument is no flag of ours
}

// Main runs one command and returns its exit code. refused is why this process, of an ordinary user, is not
// root of a user namespace.
func Main(ctx context.Context, args []string, refused error) int {
	c := &command{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr}
	f := c.globals()
	err := f.Parse(args)
	if show, _ := f.GetBool("version"); err == nil && show {
		fmt.Fprintf(c.stdout, "corten-oci version %s\nspec: %s\n", Version, Specification)
		return 0
	}
	if err == nil {
		err = c.refuseGlobals(f)
	}
	if err == nil { // a container's control groups have a name by it
		c.root, err = filepath.Abs(c.root)
	}
	if errors.Is(err, pflag.ErrHelp) || err == nil && f.NArg() == 0 {
		c.usage(f)
		return 0
	}
	if err == nil {
		err = refused
	}
	if err == nil {
		began := time.Now()
		c.trace(fmt.Sprintf("%q in %s", f.Args(), c.root))
		err = c.verb(f.Arg(0), f.Args()[1:])
		c.trace(fmt.Sprintf("%s took %s", f.Arg(0), time.Since(began).Round(time.Microsecond)))
	}
	if err != nil && c.code == 0 {
		c.code = exitError
	}
	if err != nil {
		c.say("error", err)
	}
	return c.code
}

func (c *command) globals() *pflag.FlagSet {
	f := pflag.NewFlagSet("corten-oci", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.Usage = func() {}
	f.StringVar(&c.root, "root", defaultRoot(), "the folder of the states of containers")
	f.StringVar(&c.log, "log", "", "a file that errors and warnings are added to")
	f.StringVar(&c.format, "log-format", "text", "how it is written: text or json")
	f.BoolVar(&c.debug, "debug", false, "say which verb was called, and how long it took, in the log or to stderr")
	f.BoolVar(&c.systemd, "systemd-cgroup", false, "have systemd make control groups; cgroupsPath is then slice:prefix:name")
	f.StringVar(&c.rootless, "rootless", "auto", "do without control groups that may not be made: true, false, or auto, for ordinary users")
	f.BoolP("version", "v", false, "print the version")
	return f
}

// defaultRoot is where states are: in memory, since a restart of the machine ends all containers. Root of
// a user's namespace is that user.
func defaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && (os.Geteuid() != 0 || nest.Owner() >= 0) {
		return dir + "/corten-oci"
	}
	return "/run/corten-oci"
}

func (c *command) refuseGlobals(f *pflag.FlagSet) error {
	if !slices.Contains([]string{"true", "false", "auto"}, c.rootless) {
		return errs.Newf(errs.Invalid, "use --rootless", c.rootless, "it is none of its values").WithHint("true, false or auto")
	}
	if c.format != "text" && c.format != "json" {
		return errs.Newf(errs.Invalid, "use --log-format", c.format, "there is none of this name").WithHint("text or json")
	}
	return nil
}

// verb runs a verb.
func (c *command) verb(name string, args []string) error {
	for _, v := range verbs() {
		if v.name != name {
			continue
		}
		f := pflag.NewFlagSet(name, pflag.ContinueOnError)
		f.Usage = func() {}
		f.SetInterspersed(!v.plain)
		if v.flags != nil {
			v.flags(f)
		}
		if !v.plain {
			args = dashed(f, args)
		}
		err := f.Parse(args)
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprintf(c.stdout, "Usage: corten-oci [GLOBAL FLAGS] %s [FLAGS] %s\n\n%s\n\n%s", v.name, v.args, v.about, f.FlagUsages())
			return nil
		}
		if err != nil {
			return errs.New(errs.Invalid, "read the command line of", name, err).WithHint("corten-oci " + name + " --help shows its flags")
		}
		if n := f.NArg(); n < v.least || v.most >= 0 && n > v.most {
			return errs.Newf(errs.Invalid, "read the command line of", name, fmt.Sprintf("%d arguments", n)).
				WithHint("write corten-oci " + name + " " + v.args)
		}
		return v.run(c, f, f.Args())
	}
	return errs.Newf(errs.Invalid, "do", name, "there is no such verb").WithHint("corten-oci --help lists them")
}

// dashed gives names of flags a second dash, where they have one: runc takes them so, and containerd writes -no-subreaper.
func dashed(f *pflag.FlagSet, args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if len(name) > 1 && strings.HasPrefix(a, "-") && f.Lookup(name) != nil {
			out[i] = "-" + a
		}
	}
	return out
}

func (c *command) usage(f *pflag.FlagSet) {
	fmt.Fprintf(c.stdout, "Usage: corten-oci [GLOBAL FLAGS] VERB [FLAGS] ARGS...\n\nRuns the containers of OCI bundles.\n\n")
	for _, v := range verbs() {
		fmt.Fprintf(c.stdout, "  %-10s %s\n", v.name, v.about)
	}
	fmt.Fprintf(c.stdout, "\nGlobal flags:\n%s", f.FlagUsages())
}

// warn says what does not keep a verb from going on.
func (c *command) warn(text string) { c.say("warning", errors.New(text)) }

// say writes to stderr and to the log. Container engines look for the last error there.
func (c *command) say(level string, err error) {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, err.Error())
	fmt.Fprintf(c.stderr, "corten-oci: %s: %s\n", level, text)
	hint := hintOf(err)
	if hint != "" {
		fmt.Fprintln(c.stderr, "corten-oci: hint: "+hint)
	}
	if c.log != "" {
		c.note(level, text, hint)
	}
}

// hintOf is what to do about an error: those of the system that a machine in trouble gives have one, too.
func hintOf(err error) string {
	if hint := errs.HintOf(err); hint != "" {
		return hint
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	switch errno {
	case unix.EPERM, unix.EACCES:
		if os.Geteuid() != 0 || nest.Owner() >= 0 {
			return "ordinary users may not do that: run it as root, or see to a --root of your own"
		}
	case unix.EROFS, unix.ENOTDIR:
		return "choose another folder with --root"
	case unix.ENOSPC, unix.EDQUOT:
		return "free some space where --root is, or choose another folder with it"
	case unix.EMFILE:
		return "allow more open files: ulimit -n 1024"
	case unix.ENFILE:
		return "the machine allows no more open files: see sysctl fs.file-max"
	case unix.ENOMEM:
		return "free some memory, or allow more: a control group may limit it"
	}
	return ""
}

// trace says what is done, if --debug asks for it: in the log, without one to stderr.
func (c *command) trace(text string) {
	switch {
	case !c.debug:
	case c.log != "":
		c.note("debug", text, "")
	default:
		fmt.Fprintf(c.stderr, "corten-oci: debug: %s\n", text)
	}
}

// note adds a line to the log.
func (c *command) note(level, text, hint string) {
	f, e := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if e != nil {
		fmt.Fprintln(c.stderr, "corten-oci: warning: "+e.Error())
		return
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if c.format == "json" {
		line, _ := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Hint  string `json:"hint,omitempty"`
			Time  string `json:"time"`
		}{level, text, hint, now})
		_, _ = f.Write(append(line, '\n'))
		return
	}
	fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
}

// printJSON prints a value as runc does.
func (c *command) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return errs.New(errs.Internal, "print", "", err)
	}
	_, err = c.stdout.Write(append(text, '\n'))
	return err
}
