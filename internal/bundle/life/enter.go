package life

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// Further is one more process for a container.
type Further struct {
	Root, ID string
	Process  *specs.Process
	Console  string
	PIDFile  string
	Passed   []*os.File
	Groups   []string // below the container's, as --cgroup has them; none: its own
	Stays    bool
	Paused   bool // it may wait until the container is resumed
	Warn     func(string)
}

// Exec starts one more process. It is a child of this process.
func Exec(ctx context.Context, x Further) (*launch.Process, error) {
	place, s, status, err := Find(x.Root, x.ID)
	if err != nil {
		return nil, err
	}
	if status != record.Running && status != record.Created && !(x.Paused && status == record.Paused) {
		hint := "only one that runs can be entered"
		if status == record.Paused {
			hint = "resume it first, or let the process wait for that with --ignore-paused"
		}
		return nil, not("enter", x.ID, status, hint)
	}
	if err := described(place, s); err != nil {
		return nil, err
	}
	c := *s.Container
	proc, sec, warnings, err := bundle.Process(&c, x.Process, held())
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		x.Warn(w)
	}
	if err := checkConsole(proc.Terminal, x.Console, x.Stays); err != nil {
		return nil, err
	}
	if err := reach(s); err != nil {
		return nil, err
	}
	c.Process, c.Security = proc, sec
	in, err := further(x.Root, s, &c, x.Groups)
	if err != nil {
		return nil, err
	}
	files := map[plan.Handle]*os.File{}
	in.FDs = passed(x.Passed, files)
	p, err := decide.MakeExec(in)
	if err != nil {
		return nil, err
	}
	if files[plan.Target], err = s.Open(); err != nil {
		return nil, errs.Wrap("enter container", x.ID, err)
	}
	defer files[plan.Target].Close()
	root, err := openRoot(s.PID)
	if err != nil {
		return nil, errs.Wrap("enter container", x.ID, err)
	}
	files[plan.TargetRoot] = root
	defer root.Close()
	out, err := launch.Join(ctx, p, launch.Env{Files: files, Listener: toAgent(s, status)})
	if err != nil {
		return nil, err
	}
	if x.Console != "" {
		err = sendTerminal(x.Console, out.Terminal)
		_ = out.Terminal.Close()
		out.Terminal = nil
	}
	if err == nil {
		err = WritePID(x.PIDFile, out.PID)
	}
	if err != nil {
		_ = out.Signal(unix.SIGKILL)
		_, _ = out.Wait()
		return nil, err
	}
	return out, nil
}

// openRoot opens the root directory of a process.
func openRoot(pid int) (*os.File, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), "root"), err
}

// further is what the plan of one more process depends on: that of c, in groups below those of s.
func further(root string, s *record.State, c *spec.Container, groups []string) (in decide.ExecInput, err error) {
	if c.Namespaces.User.Path != "" {
		if c.Namespaces.User, err = usersOf(s.PID); err != nil {
			return in, err
		}
	}
	in = decide.ExecInput{Container: c, Process: c.Process}
	if in.Filter, err = filter(root, c.Security); err != nil {
		return in, err
	}
	if in.Host, err = modules(c.Security); err != nil {
		return in, err
	}
	if in.V2, in.Enter = s.Groups.Enter(); len(groups) > 0 {
		if in.V2, in.Enter, err = below(cgroup.Detect(), s.Groups, groups); err != nil {
			return in, err
		}
	}
	in.Enter = append(in.Enter, s.Share.Enter()...)
	return in, nil
}

// ProcessOf describes the first process of a container, for others to be like it.
func ProcessOf(root, id string) (*specs.Process, error) {
	place, s, _, err := Find(root, id)
	if err == nil {
		err = described(place, s)
	}
	if err != nil {
		return nil, err
	}
	return processOf(s.Container), nil
}

func processOf(c *spec.Container) *specs.Process {
	p, sec := c.Process, c.Security
	out := &specs.Process{Env: slices.Clone(p.Env), Cwd: p.Cwd, NoNewPrivileges: !sec.AllowNewPrivs, ApparmorProfile: sec.AppArmor,
		SelinuxLabel: sec.SELinux, OOMScoreAdj: p.OOMScore, Capabilities: &specs.LinuxCapabilities{Bounding: slices.Clone(sec.Capabilities)}}
	if s := sec.Sets; s != nil {
		out.Capabilities.Effective, out.Capabilities.Permitted = slices.Clone(s.Effective), slices.Clone(s.Permitted)
		out.Capabilities.Inheritable, out.Capabilities.Ambient = slices.Clone(s.Inheritable), slices.Clone(s.Ambient)
	}
	number := func(text string) uint32 {
		n, _ := strconv.ParseUint(text, 10, 32)
		return uint32(n)
	}
	uid, gid, _ := strings.Cut(p.User, ":")
	out.User = specs.User{UID: number(uid), GID: number(gid), Umask: p.Umask}
	for _, g := range p.Groups {
		out.User.AdditionalGids = append(out.User.AdditionalGids, number(g))
	}
	for _, r := range p.Rlimits {
		out.Rlimits = append(out.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(r.Name), Soft: r.Soft, Hard: r.Hard})
	}
	return out
}
