package oci

import (
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

// verbs is the table.
func verbs() []verb {
	id := func(name, about string, run func(*command, *pflag.FlagSet, []string) error, flags func(*pflag.FlagSet)) verb {
		return verb{name: name, args: "ID", about: about, run: run, flags: flags, least: 1, most: 1}
	}
	return []verb{
		{name: "spec", about: "write a config.json to begin with", run: specify, flags: specFlags},
		id("create", "create a container, which then waits to be started", create, createFlags),
		id("start", "start a created container", start, nil),
		id("run", "create a container, start it, and wait for its end", run, runFlags),
		id("state", "print what a container is doing", state, nil),
		{name: "kill", args: "ID [SIGNAL]", about: "send a signal to a container, SIGTERM if none is named", run: kill, least: 1, most: 2,
			flags: func(f *pflag.FlagSet) { f.BoolP("all", "a", false, "to all of its processes") }},
		id("delete", "remove a container that has ended", remove, func(f *pflag.FlagSet) {
			f.BoolP("force", "f", false, "one that has not is killed; one that is not there is no error")
		}),
		{name: "list", about: "list containers", run: list, flags: listFlags},
		{name: "ps", args: "ID [PS FLAGS]", about: "list the processes of a container", run: ps, least: 1, most: -1, plain: false,
			flags: func(f *pflag.FlagSet) { f.StringP("format", "f", "table", "table or json") }},
		{name: "exec", args: "ID COMMAND [ARGS]", about: "run one more process in a container", run: execute, flags: execFlags, least: 1, most: -1, plain: true},
		id("pause", "freeze a container", pause, nil),
		id("resume", "let a frozen container go on", resume, nil),
		id("events", "print what a container uses, again and again, and when its memory runs out", events, eventsFlags),
		id("update", "change the limits of a container", update, updateFlags),
		id("checkpoint", "write a container that runs to files, by criu", checkpoint, checkpointFlags),
		id("restore", "make a container of such files, and wait for its end", restore, restoreFlags),
		{name: "features", about: "print what this runtime understands", run: printFeatures},
	}
}

func createFlags(f *pflag.FlagSet) {
	f.StringP("bundle", "b", ".", "the folder of the bundle")
	f.String("console-socket", "", "a Unix socket that takes the container's terminal")
	f.String("pid-file", "", "a file for the number of the container's first process")
	f.Int("preserve-fds", 0, "how many descriptors from 3 on the command gets, besides those of LISTEN_FDS")
	f.Bool("no-pivot", false, "mount the root over the host's, where pivot_root cannot work, as on an initramfs")
	f.Bool("no-new-keyring", false, "the container keeps the session keyring of who creates it")
}

func runFlags(f *pflag.FlagSet) {
	createFlags(f)
	f.BoolP("detach", "d", false, "do not wait for its end")
	f.Bool("keep", false, "do not delete it then")
}

// requestOf reads the flags of create and run.
func (c *command) requestOf(f *pflag.FlagSet, id string) (life.Request, error) {
	req := life.Request{Root: c.root, ID: id, Systemd: c.systemd, Warn: c.warn}
	req.Rootless = c.rootless == "true" || c.rootless == "auto" && nest.Owner() >= 0
	req.NoPivot, _ = f.GetBool("no-pivot")
	req.Keyring, _ = f.GetBool("no-new-keyring")
	req.Bundle, _ = f.GetString("bundle")
	req.Console, _ = f.GetString("console-socket")
	req.PIDFile, _ = f.GetString("pid-file")
	var err error
	if req.Passed, req.Env, err = activated(); err != nil {
		return req, err
	}
	more, err := preserved(f, len(req.Passed))
	req.Passed = append(req.Passed, more...)
	return req, err
}

// activated is the sockets that a supervisor had open for us, sd_listen_fds(3): they are for the command,
// which is process 1 in its namespace.
func activated() (list []*os.File, env []string, err error) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	env = []string{"LISTEN_FDS=" + strconv.Itoa(n), "LISTEN_PID=1"}
	if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
		env = append(env, "LISTEN_FDNAMES="+names)
	}
	list, err = handed(3, n)
	return list, env, err
}

// preserved is the descriptors that the command gets besides 0, 1, 2 and the sockets of a supervisor.
func preserved(f *pflag.FlagSet, sockets int) ([]*os.File, error) {
	n, _ := f.GetInt("preserve-fds")
	return handed(3+sockets, n)
}

// handed is n of our descriptors.
func handed(first, n int) (list []*os.File, err error) {
	for fd := first; fd < first+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, errs.New(errs.Invalid, "hand over descriptor", strconv.Itoa(fd), err).WithHint("--preserve-fds counts from 3 on, or from what LISTEN_FDS says; all have to be open")
		}
		unix.CloseOnExec(fd)
		list = append(list, os.NewFile(uintptr(fd), "fd"+strconv.Itoa(fd)))
	}
	return list, nil
}

func create(c *command, f *pflag.FlagSet, args []string) error {
	req, err := c.requestOf(f, args[0])
	if err != nil {
		return err
	}
	_, err = life.Create(c.ctx, req)
	return err
}

func start(c *command, _ *pflag.FlagSet, args []string) error {
	return life.Start(c.ctx, c.root, args[0], c.warn)
}

func kill(c *command, f *pflag.FlagSet, args []string) error {
	sig := unix.SIGTERM
	if len(args) > 1 {
		if sig = signalOf(args[1]); sig < 0 {
			return errs.Newf(errs.Invalid, "send signal", args[1], "there is none of this name").WithHint("kill -l lists them")
		}
	}
	all, _ := f.GetBool("all")
	return life.Kill(c.ctx, c.root, args[0], sig, all)
}

// signalOf reads a signal: a number, or a name such as TERM, SIGTERM and SIGRTMIN+3; -1 if it is none.
func signalOf(text string) unix.Signal {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > 64 {
			return -1
		}
		return unix.Signal(n)
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig
	}
	for _, x := range []struct {
		prefix     string
		base, sign int
	}{{"SIGRTMIN", 34, 1}, {"SIGRTMAX", 64, -1}} { // as the C library counts them
		rest, ok := strings.CutPrefix(name, x.prefix)
		n, err := strconv.Atoi("0" + strings.TrimLeft(rest, "+-"))
		if s := x.base + x.sign*n; ok && err == nil && s >= 34 && s <= 64 {
			return unix.Signal(s)
		}
	}
	return -1
}

func remove(c *command, f *pflag.FlagSet, args []string) error {
	force, _ := f.GetBool("force")
	return life.Delete(c.ctx, c.root, args[0], force, c.warn)
}

func pause(c *command, _ *pflag.FlagSet, args []string) error {
	return life.Pause(c.ctx, c.root, args[0], true)
}

func resume(c *command, _ *pflag.FlagSet, args []string) error {
	return life.Pause(c.ctx, c.root, args[0], false)
}
