// Package runline writes the command line that makes a container: the inverse of package
// runflags.
//
// Of takes a container as a user asked for it (engine.Asked) and returns the arguments after
// corten run or corten create. Reading them with runflags gives the same container again; a
// property test holds the two together. What no flag can say is refused by name. Every flag is
// one argument, --NAME=VALUE, so that none depends on the next.
package runline

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/cli/netflags"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// line collects arguments.
type line struct {
	args []string
	err  error // the first thing that no flag can say
}

func (l *line) flag(name, value string) { l.args = append(l.args, "--"+name+"="+value) }

func (l *line) text(name, value string) {
	if value != "" {
		l.flag(name, value)
	}
}

func (l *line) yes(name string, on bool) {
	if on {
		l.args = append(l.args, "--"+name)
	}
}

// num leaves out zero, which means for each flag that it is not there.
func (l *line) num(name string, n int64) {
	if n != 0 {
		l.flag(name, strconv.FormatInt(n, 10))
	}
}

func (l *line) time(name string, d time.Duration) {
	if d != 0 {
		l.flag(name, d.String())
	}
}

func (l *line) list(name string, values []string) {
	for _, v := range values {
		l.flag(name, v)
	}
}

// pairs writes a map in the order of its keys.
func (l *line) pairs(name string, m map[string]string) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		l.flag(name, k+"="+m[k])
	}
}

func (l *line) refuse(what, hint string) {
	if l.err == nil {
		l.err = errs.Newf(errs.Unsupported, "write command line for", what, "no flag says it").WithHint(hint)
	}
}

// Of returns the flags that make the container, and then the image and the command.
func Of(c *spec.Container) (flags, rest []string, err error) {
	l := &line{}
	l.text("name", c.Name)
	l.pairs("label", c.Labels)
	l.life(c)
	l.health(c.Life.Health)
	l.log(c.Life.Log)
	l.process(&c.Process)
	l.mounts(c)
	netflags.Write(c, l.flag)
	l.namespaces(c)
	l.security(&c.Security)
	l.devices(c)
	l.limits(c.Resources)
	l.blockIO(c.Resources.BlockIO)
	rest = []string{c.Image.Name}
	if c.Image.Platform {
		rest = append(rest, "--")
	}
	return l.args, append(rest, c.Process.Args...), l.err
}

func (l *line) life(c *spec.Container) {
	life := c.Life
	l.yes("rm", life.Remove)
	if r := life.Restart; r.Policy != spec.RestartNo {
		value := string(r.Policy)
		if r.Max != 0 {
			value += ":" + strconv.Itoa(r.Max)
		}
		l.flag("restart", value)
	}
	l.yes("no-init", life.NoInit)
	l.text("stop-signal", life.StopSignal)
	if life.StopTimeout != nil {
		l.flag("stop-timeout", strconv.Itoa(*life.StopTimeout))
	}
	l.text("systemd", string(life.Systemd))
	l.text("sdnotify", string(life.Notify))
}

func (l *line) health(h *spec.Health) {
	if h == nil {
		return
	}
	if l.yes("no-healthcheck", h.Off); h.Off {
		return
	}
	switch {
	case len(h.Test) == 0:
	case len(h.Test) == 2 && h.Test[0] == "CMD-SHELL":
		l.flag("health-cmd", h.Test[1])
	default:
		l.refuse("a health check without a shell", "--health-cmd takes a line for the shell")
	}
	l.time("health-interval", h.Interval)
	l.time("health-timeout", h.Timeout)
	l.time("health-start-period", h.StartPeriod)
	l.time("health-start-interval", h.StartInterval)
	l.num("health-retries", int64(h.Retries))
	onFailure := h.OnFailure
	if len(l.args) == 0 || !strings.HasPrefix(l.args[len(l.args)-1], "--health-") { // that there is a check at all
		onFailure = or(onFailure, "none")
	}
	l.text("health-on-failure", onFailure)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (l *line) log(g spec.Log) {
	if g.Off {
		l.flag("log-driver", "none")
		return
	}
	opt := func(name string, n int64) {
		if n != 0 {
			l.flag("log-opt", name+"="+strconv.FormatInt(n, 10))
		}
	}
	opt("max-size", g.MaxSize)
	opt("max-file", int64(g.MaxFiles))
	if g.Uncompressed {
		l.flag("log-opt", "compress=false")
	}
	if g.NonBlocking {
		l.flag("log-opt", "mode=non-blocking")
	}
	opt("max-buffer-size", g.Buffer)
}

func (l *line) process(p *spec.Process) {
	l.yes("interactive", p.Stdin)
	l.yes("tty", p.Terminal)
	l.list("env", p.Env)
	l.text("workdir", p.Cwd)
	l.text("user", p.User)
	l.list("group-add", p.Groups)
	switch {
	case p.Entrypoint == nil:
	case len(p.Entrypoint) == 0:
		l.flag("entrypoint", "")
	case len(p.Entrypoint) == 1:
		l.flag("entrypoint", p.Entrypoint[0])
	default:
		l.refuse("an entry point of several words", "give them as the command")
	}
	if p.Umask != nil {
		l.flag("umask", "0"+strconv.FormatUint(uint64(*p.Umask), 8))
	}
	for _, r := range p.Rlimits {
		l.flag("ulimit", r.Name+"="+rlimit(r.Soft)+":"+rlimit(r.Hard))
	}
	if p.OOMScore != nil {
		l.flag("oom-score-adj", strconv.Itoa(*p.OOMScore))
	}
}

func rlimit(n uint64) string {
	if n == ^uint64(0) {
		return "-1"
	}
	return strconv.FormatUint(n, 10)
}

// mounts are all written with --mount, which can say everything and keeps their order.
func (l *line) mounts(c *spec.Container) {
	for _, m := range c.Mounts {
		l.flag("mount", mount(m))
	}
	l.yes("read-only", c.Root.ReadOnly)
	l.num("shm-size", c.Root.ShmSize)
	if c.Root.Size > 0 {
		l.flag("storage-opt", "size="+strconv.FormatInt(c.Root.Size, 10))
	}
}

func mount(m spec.Mount) string {
	var pairs []string
	add := func(on bool, text string) {
		if !on {
			return
		}
		if strings.ContainsAny(text, ",\"\r\n") { // as CSV has it, RFC 4180
			text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		}
		pairs = append(pairs, text)
	}
	add(true, "type="+string(m.Type))
	add(m.Source != "", "source="+m.Source)
	add(true, "target="+m.Target)
	add(m.ReadOnly, "readonly")
	add(m.Type == spec.Bind && !m.Recursive, "bind-recursive=disabled")
	add(m.Propagation != "", "bind-propagation="+m.Propagation)
	add(m.NoExec, "noexec")
	add(m.Exec, "exec")
	add(m.NoSuid, "nosuid")
	add(m.NoDev, "nodev")
	add(m.NoIDMap, "noidmap")
	add(m.Relabel != "", "relabel="+string(m.Relabel))
	add(m.NoCopy, "volume-nocopy")
	add(m.Create, "bind-create-src")
	add(m.Size != 0, "tmpfs-size="+strconv.FormatInt(m.Size, 10))
	if m.Mode != nil {
		add(true, "tmpfs-mode=0"+strconv.FormatUint(uint64(*m.Mode), 8))
	}
	return strings.Join(pairs, ",")
}

func (l *line) blockIO(b spec.BlockIO) {
	l.num("blkio-weight", int64(b.Weight))
	for _, d := range b.WeightDevice {
		l.flag("blkio-weight-device", disk(d.Major, d.Minor)+":"+strconv.Itoa(int(d.Weight)))
	}
	for _, t := range []struct {
		name string
		list []spec.ThrottleDevice
	}{{"device-read-bps", b.ReadBps}, {"device-write-bps", b.WriteBps}, {"device-read-iops", b.ReadIOPS}, {"device-write-iops", b.WriteIOPS}} {
		for _, d := range t.list {
			l.flag(t.name, disk(d.Major, d.Minor)+":"+strconv.FormatUint(d.Rate, 10))
		}
	}
}

// disk is a name of a block device: what the kernel calls it, or else where udev has a link.
func disk(major, minor int64) string {
	number := strconv.FormatInt(major, 10) + ":" + strconv.FormatInt(minor, 10)
	if at, err := os.Readlink("/sys/dev/block/" + number); err == nil {
		return "/dev/" + filepath.Base(at)
	}
	return "/dev/block/" + number
}
