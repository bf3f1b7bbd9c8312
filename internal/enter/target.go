package enter

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// target is a container to be entered: its first process, whatever becomes of its number.
type target struct {
	pid   int
	pidfd *os.File
	proc  *os.File // its directory in /proc, O_PATH
	root  *os.File // its root directory, O_PATH
	group cgroup.Group
}

func notRunning(c *spec.Container) error {
	return errs.Newf(errs.Invalid, "enter container", c.Name, "it is not running").WithHint("corten start starts it")
}

// openTarget opens a container that runs.
func openTarget(s container.Snapshot) (*target, error) {
	if s.State.Status != container.Running {
		return nil, notRunning(s.Spec)
	}
	if s.Frozen() {
		return nil, errs.Newf(errs.Invalid, "enter container", s.Spec.Name, "it is paused").WithHint("corten unpause lets it go on")
	}
	t := &target{pid: s.State.PID, group: groupOf(s)}
	gone := func(err error) (*target, error) {
		t.close()
		if err == unix.EACCES || err == unix.EPERM {
			return nil, errs.Wrap("enter container", s.Spec.Name, err)
		}
		return nil, notRunning(s.Spec)
	}
	proc, err := unix.Open("/proc/"+strconv.Itoa(t.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	t.proc = os.NewFile(uintptr(proc), "proc")
	if t.pidfd, err = s.Process(); err != nil {
		return gone(err)
	}
	root, err := unix.Openat(proc, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	t.root = os.NewFile(uintptr(root), "root")
	if !t.alive() { // else the directory was that of the process, and not of another with its number
		return gone(nil)
	}
	if t.group.Full() {
		t.close()
		return nil, errs.Newf(errs.Unavailable, "enter container", s.Spec.Name, "its limit of processes is met").
			WithHint("raise it: corten update --pids-limit")
	}
	return t, nil
}

func (t *target) close() {
	_, _, _ = t.pidfd.Close(), t.proc.Close(), t.root.Close() // a nil file says so
}

// maps reads a map of its user namespace, which may have been chosen when it was started.
func (t *target) maps(name string) []spec.IDMap {
	fd, err := unix.Openat(int(t.proc.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	maps, _ := spec.ParseIDMaps(string(readAtMost(f, maxAccounts)))
	return maps
}

func (t *target) alive() bool {
	return unix.PidfdSendSignal(int(t.pidfd.Fd()), 0, nil, 0) == nil
}

// groupOf is the container's groups: as its state says, or else those of its first process.
func groupOf(s container.Snapshot) cgroup.Group {
	if len(s.State.Groups) > 0 || s.State.PID == 0 {
		return s.State.Groups
	}
	var g cgroup.Group
	for _, t := range cgroupsOf(s.State.PID) {
		if strings.Contains(t, string(s.Spec.ID)) {
			g = append(g, t)
		}
	}
	return g
}

// own is the group of cgroup v2 that the container's first process is in.
func (t *target) own() string {
	host := cgroup.Detect()
	if i := slices.IndexFunc(cgroupsOf(t.pid), func(d string) bool { return strings.HasPrefix(d, host.V2.Mount+"/") }); host.V2.Mount != "" && i >= 0 {
		return cgroupsOf(t.pid)[i]
	}
	return ""
}

// cgroupsOf is the directories of the groups that a process is in, cgroups(7).
func cgroupsOf(pid int) []string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	host := cgroup.Detect()
	var dirs []string
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, group, _ := strings.Cut(rest, ":")
		if names == "" && host.V2.Mount != "" {
			dirs = append(dirs, path.Join(host.V2.Mount, group))
		}
		for _, t := range host.V1 {
			if names != "" && strings.Join(t.Controllers, ",") == names {
				dirs = append(dirs, path.Join(t.Mount, group))
			}
		}
	}
	return dirs
}

// maxAccounts is how large a container's passwd or group may be to be looked at: bytes.
const maxAccounts = 4 << 20

// accounts reads the container's own passwd and group. Anything may be in their place.
func (t *target) accounts() (a plan.Accounts, err error) {
	if a.Passwd, err = t.read("etc/passwd"); err != nil {
		return a, err
	}
	a.Group, err = t.read("etc/group")
	return a, err
}

// read reads a regular file of the container; one that is missing or is no file is empty. It
// is not opened before it is known to be one: a FIFO would have us wait.
func (t *target) read(name string) ([]byte, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	found, err := kernel.OpenAt2(int(t.root.Fd()), name, how)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil, nil
	default:
		return nil, errs.Wrap("open in the container", "/"+name, err)
	}
	defer unix.Close(found)
	var st unix.Stat_t
	if err := unix.Fstat(found, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxAccounts {
		return nil, err
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(found))
	if err != nil {
		return nil, errs.Wrap("open in the container", "/"+name, err)
	}
	defer f.Close()
	return readAtMost(f, maxAccounts), nil
}

// readAtMost reads to the end and keeps the first most bytes.
func readAtMost(f *os.File, most int) []byte {
	var kept []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		kept = append(kept, buf[:min(n, most-len(kept))]...)
		if err != nil {
			return kept
		}
	}
}
