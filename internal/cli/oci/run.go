package oci

import (
	"encoding/json"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
)

func run(c *command, f *pflag.FlagSet, args []string) error {
	req, err := c.requestOf(f, args[0])
	if err != nil {
		return err
	}
	detach, _ := f.GetBool("detach")
	keep, _ := f.GetBool("keep")
	req.Stays = !detach
	box, err := life.Create(c.ctx, req)
	if err != nil {
		return err
	}
	if err := box.Start(c.ctx); err != nil {
		_ = box.Leave()
		_ = box.Remove(c.ctx, c.warn)
		return err
	}
	if err := box.Leave(); err != nil || detach {
		return err
	}
	status, err := c.attend(box, box.Terminal)
	if err != nil {
		return err
	}
	c.code = codeOf(status)
	if keep {
		return nil
	}
	return box.Remove(c.ctx, c.warn)
}

func codeOf(s launch.Status) int {
	if s.Signal != 0 {
		return exitSignal + int(s.Signal)
	}
	return s.Code
}

// guest is a process that is waited for.
type guest interface {
	Signal(unix.Signal) error
	Wait() (launch.Status, error)
}

// attend passes signals on to a process, copies from and to its terminal if it has one, and waits for it.
func (c *command) attend(g guest, terminal *os.File) (launch.Status, error) {
	signals := make(chan os.Signal, 16)
	// Those that people and supervisors send: each costs the Go runtime some microseconds.
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	if terminal != nil {
		signal.Notify(signals, unix.SIGWINCH)
	}
	defer signal.Stop(signals)
	t := newTerminal(terminal)
	go func() {
		for s := range signals {
			if s == unix.SIGWINCH {
				t.resize()
			} else {
				_ = g.Signal(s.(unix.Signal)) // it may have ended
			}
		}
	}()
	if err := t.copy(); err != nil {
		return launch.Status{}, err
	}
	status, err := g.Wait()
	t.end()
	return status, err
}

func execFlags(f *pflag.FlagSet) {
	f.StringP("process", "p", "", "a file that describes the process, as process in config.json")
	f.BoolP("tty", "t", false, "with a terminal")
	f.BoolP("detach", "d", false, "do not wait for its end")
	f.String("console-socket", "", "a Unix socket that takes its terminal")
	f.String("pid-file", "", "a file for its number")
	f.Int("preserve-fds", 0, "how many descriptors from 3 on it gets")
	f.String("cwd", "", "its working directory")
	f.StringArrayP("env", "e", nil, "NAME=VALUE, besides the container's")
	f.StringP("user", "u", "", "UID[:GID]")
	f.UintSliceP("additional-gids", "g", nil, "more groups")
	f.StringArrayP("cap", "c", nil, "a capability besides the container's")
	f.Bool("no-new-privs", false, "it can gain no privileges")
	f.String("apparmor", "", "its profile of AppArmor")
	f.String("process-label", "", "its label of SELinux")
	f.StringArray("cgroup", nil, "a group below the container's that it is in: [CONTROLLER,...:]PATH")
	f.Bool("ignore-paused", false, "also in a container that is paused: the process begins when that is resumed")
}

func execute(c *command, f *pflag.FlagSet, args []string) error {
	c.code = exitExec
	x := life.Further{Root: c.root, ID: args[0], Warn: c.warn}
	var err error
	if x.Process, err = c.processOf(f, args); err != nil {
		return err
	}
	detach, _ := f.GetBool("detach")
	x.Stays = !detach
	x.Paused, _ = f.GetBool("ignore-paused")
	x.Groups, _ = f.GetStringArray("cgroup")
	x.Console, _ = f.GetString("console-socket")
	x.PIDFile, _ = f.GetString("pid-file")
	if x.Passed, err = preserved(f, 0); err != nil {
		return err
	}
	proc, err := life.Exec(c.ctx, x)
	if err != nil {
		return err
	}
	if detach {
		c.code = 0
		return nil
	}
	status, err := c.attend(proc, proc.Terminal)
	if err == nil {
		c.code = codeOf(status)
	}
	return err
}

// processOf is the process of exec: as a file describes it, or as the container's own with what the
// flags say instead.
func (c *command) processOf(f *pflag.FlagSet, args []string) (*specs.Process, error) {
	if file, _ := f.GetString("process"); file != "" {
		text, err := disk.ReadAtMost(file, 16<<20)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(text, p); err != nil {
			return nil, errs.New(errs.Invalid, "read", file, err)
		}
		if t, _ := f.GetBool("tty"); t {
			p.Terminal = true
		}
		return p, nil
	}
	if len(args) < 2 {
		return nil, errs.Newf(errs.Invalid, "execute", "", "no command given").WithHint("write it after the id, or name a file with --process")
	}
	p, err := life.ProcessOf(c.root, args[0])
	if err != nil {
		return nil, err
	}
	p.Args = args[1:]
	p.Terminal, _ = f.GetBool("tty")
	env, _ := f.GetStringArray("env")
	p.Env = append(p.Env, env...)
	if cwd, _ := f.GetString("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	if on, _ := f.GetBool("no-new-privs"); on {
		p.NoNewPrivileges = true
	}
	if v, _ := f.GetString("apparmor"); v != "" {
		p.ApparmorProfile = v
	}
	if v, _ := f.GetString("process-label"); v != "" {
		p.SelinuxLabel = v
	}
	caps, _ := f.GetStringArray("cap")
	for _, set := range []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted} {
		*set = append(*set, caps...)
	}
	return p, userOf(f, &p.User)
}

func userOf(f *pflag.FlagSet, u *specs.User) error {
	text, _ := f.GetString("user")
	uid, gid, both := strings.Cut(text, ":")
	for _, x := range []struct {
		text string
		to   *uint32
		on   bool
	}{{uid, &u.UID, text != ""}, {gid, &u.GID, both}} {
		if !x.on {
			continue
		}
		n, err := strconv.ParseUint(x.text, 10, 32)
		if err != nil {
			return errs.New(errs.Invalid, "use --user", text, err).WithHint("a runtime takes numbers: UID or UID:GID")
		}
		*x.to = uint32(n)
	}
	gids, _ := f.GetUintSlice("additional-gids")
	for _, g := range gids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return nil
}
