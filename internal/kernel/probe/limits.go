package probe

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

func limits() []feature {
	const unified = "boot parameters systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
	return []feature{
		{"control groups", "holds each container to its limits, and finds all its processes", "no container starts",
			"mount -t cgroup2 cgroup2 /sys/fs/cgroup; systemd does it", needed, controlGroups},
		{"cgroup v2 controllers", "limits memory, CPU, processes and disk of a container together", "limits work as cgroup v1 has them: no memory.high, disk limits for unbuffered reads and writes only, none for ordinary users",
			unified, used, controllers},
		{"delegation", "lets this user limit containers", "limits are refused",
			"cgroup v2, and a drop-in for systemd's user@.service: [Service] Delegate=cpu cpuset io memory pids", used, delegation},
		{"device filter", "keeps a container from devices that are not its own (BPF on cgroup v2)", "cgroup v1's controller devices does it, or nothing but the container's user namespace",
			"CONFIG_CGROUP_BPF, CONFIG_BPF_SYSCALL (Linux 4.15)", used, deviceFilter},
		{"PSI", "tells how long a container waits for memory, CPU and disk", "corten stats shows no pressure",
			"CONFIG_PSI, boot parameter psi=1", later, pressure},
		{"cgroup.kill", "ends all processes of a container at once", "they are signalled one by one until none is left",
			"cgroup v2, Linux 5.14", used, groupFile("cgroup.kill")},
		{"freezer", "stops a container's processes while they are killed one by one", "without cgroup.kill, a container that forks fast enough does not end",
			"cgroup v2 (Linux 5.2), or v1 with CONFIG_CGROUP_FREEZER", used, freezer},
		{"swap accounting", "limits swap (--memory-swap)", "a container's swap is not limited",
			"CONFIG_MEMCG, CONFIG_SWAP, boot parameter swapaccount=1", used, swapAccounting},
	}
}

// cgroups is where control groups are mounted, as every distribution does it, and where
// this process may make some.
type cgroups struct {
	v2   string   // the mount; empty: none
	base string   // the highest group of v2 in which the caller may make others; empty: none
	v1   []string // controllers
}

func readCgroups() (cgroups, error) {
	const root = "/sys/fs/cgroup"
	var g cgroups
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g, err
	}
	for _, dir := range []string{root, root + "/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			g.v2 = dir
			break
		}
	}
	// ID:CONTROLLERS:GROUP, where v2 has no controllers and v1 may have names.
	for l := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(l), ":", 3)
		switch {
		case len(f) < 3 || strings.Contains(f[1], "="):
		case f[1] != "":
			names := strings.Split(f[1], ",")
			if _, err := os.Stat(path.Join(root, names[0], "cgroup.procs")); err == nil {
				g.v1 = append(g.v1, names...)
			}
		case g.v2 != "":
			g.base = highest(g.v2, f[2])
		}
	}
	slices.Sort(g.v1)
	return g, nil
}

// highest is the root of the hierarchy, or the highest group from one's own upwards, that
// this user may put processes into.
func highest(mount, own string) string {
	writable := func(g string) bool {
		return unix.Faccessat(unix.AT_FDCWD, path.Join(mount, g, "cgroup.procs"), unix.W_OK, unix.AT_EACCESS) == nil
	}
	if writable("/") {
		return mount
	}
	found := ""
	for g := path.Clean(own); g != "/" && g != "." && writable(g); g = path.Dir(g) {
		found = path.Join(mount, g)
	}
	return found
}

// mode is "v1", "v2" or "hybrid"; empty if there are no control groups.
func (g cgroups) mode() string {
	switch {
	case g.v2 != "" && len(g.v1) > 0:
		return "hybrid"
	case g.v2 != "":
		return "v2"
	case len(g.v1) > 0:
		return "v1"
	}
	return ""
}

// CgroupMode is "v1", "v2" or "hybrid", where some controllers are with each; empty if no
// control groups are mounted.
func CgroupMode() (string, error) {
	g, err := readCgroups()
	return g.mode(), err
}

// controllersOf are those that v2 has, at the root or below a group.
func controllersOf(dir string) []string {
	s, _ := line(dir + "/cgroup.controllers")
	return strings.Fields(s)
}

// groupPrefix begins the names of groups of probes; the number of their maker's process
// follows, and a number that makes them unique.
const groupPrefix = "corten-probe-"

// makeGroup makes an empty group of v2. One that a killed probe left is removed, once its
// maker's number is nobody's.
func (h *host) makeGroup() (string, error) {
	g, err := readCgroups()
	if err != nil {
		return "", err
	}
	if g.base == "" {
		return "", unix.ENOENT
	}
	old, _ := filepath.Glob(g.base + "/" + groupPrefix + "*")
	for _, o := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(path.Base(o), groupPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(o)
		}
	}
	dir, err := os.MkdirTemp(g.base, groupPrefix+strconv.Itoa(os.Getpid())+"-*")
	if err == nil {
		h.later(func() { _ = os.Remove(dir) })
	}
	return dir, err
}

func controlGroups(*host) finding {
	g, err := readCgroups()
	if err != nil {
		return unknown(words(err))
	}
	switch g.mode() {
	case "":
		return no("none are mounted at /sys/fs/cgroup")
	case "v2":
		return yes("v2")
	case "v1":
		return yes("v1: " + strings.Join(g.v1, " "))
	}
	return yes("hybrid; v1: " + strings.Join(g.v1, " ") + "; v2: " + orNone(controllersOf(g.v2)))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

// wanted are the controllers that limits of a container use.
func wanted() []string { return []string{"cpu", "cpuset", "io", "memory", "pids"} }

func lacking(have []string) []string {
	return slices.DeleteFunc(wanted(), func(c string) bool { return slices.Contains(have, c) })
}

func controllers(*host) finding {
	g, err := readCgroups()
	if err != nil {
		return unknown(words(err))
	}
	if g.v2 == "" {
		return no("cgroup v2 is not mounted")
	}
	have := controllersOf(g.v2)
	if l := lacking(have); len(l) > 0 {
		return no("v2 lacks " + strings.Join(l, " "))
	}
	return yes(strings.Join(have, " "))
}

func delegation(*host) finding {
	g, err := readCgroups()
	switch {
	case err != nil:
		return unknown(words(err))
	case g.v2 != "" && g.base == g.v2:
		return yes("this user may make groups at the root")
	case g.v2 == "" && unix.Access("/sys/fs/cgroup/memory/cgroup.procs", unix.W_OK) == nil:
		return yes("this user may make groups of v1 at the root")
	case g.base == "":
		return no("this user may make no groups")
	}
	have := controllersOf(g.base)
	if l := lacking(have); len(l) > 0 {
		return no(g.base + " has " + orNone(have) + "; lacks " + strings.Join(l, " "))
	}
	return yes(g.base + ": " + strings.Join(have, " "))
}

// deviceFilter has the kernel verify and compile a program that allows everything, and
// attaches it to nothing.
func deviceFilter(h *host) finding {
	allow := []kernel.BPFInsn{
		{Op: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, Imm: 1}, // r0 = 1
		{Op: unix.BPF_JMP | unix.BPF_EXIT},
	}
	fd, err := kernel.BPFLoad(unix.BPF_PROG_TYPE_CGROUP_DEVICE, "corten_probe", allow)
	if err == nil {
		unix.Close(fd)
	}
	f := h.judge(err)
	if g, err := readCgroups(); err == nil && slices.Contains(g.v1, "devices") {
		return f.or("cgroup v1's devices")
	}
	return f
}

func pressure(*host) finding {
	_, err := os.ReadFile("/proc/pressure/memory")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return no("not in this kernel")
	case errno(err) == unix.EOPNOTSUPP:
		return no("switched off since boot")
	case err != nil:
		return unknown(words(err))
	}
	return yes("")
}

// groupFile looks for a file in a new group. Where there can be none, it looks into the
// caller's own, which has it too unless it is the root.
func groupFile(name string) func(*host) finding {
	return func(h *host) finding {
		g, err := readCgroups()
		if err != nil {
			return unknown(words(err))
		}
		if g.v2 == "" {
			return no("cgroup v2 is not mounted")
		}
		dir, err := h.group()
		if err != nil {
			own, err := ownGroup(g.v2)
			if err != nil || own == g.v2 {
				return unknown("this user may make no groups to look into")
			}
			dir = own
		}
		if _, err := os.Stat(dir + "/" + name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return no("cgroup v2 has no " + name)
			}
			return unknown(words(err))
		}
		return yes("")
	}
}

// ownGroup is the directory of this process's group of v2.
func ownGroup(mount string) (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for l := range strings.Lines(string(b)) {
		if g, ok := strings.CutPrefix(strings.TrimSpace(l), "0::"); ok {
			return path.Join(mount, g), nil
		}
	}
	return "", unix.ENOENT
}

func freezer(h *host) finding {
	f := groupFile("cgroup.freeze")(h)
	if f.answer != Yes {
		if g, err := readCgroups(); err == nil && slices.Contains(g.v1, "freezer") {
			return yes("cgroup v1's")
		}
	}
	return f
}

// swapAccounting looks at v1's root group, or at a group of v2 that has the memory
// controller: one's own, or systemd's.
func swapAccounting(h *host) finding {
	g, err := readCgroups()
	if err != nil {
		return unknown(words(err))
	}
	if slices.Contains(g.v1, "memory") {
		if _, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"); err == nil {
			return yes("cgroup v1's")
		}
		return no("cgroup v1's memory controller does not count swap")
	}
	if !slices.Contains(controllersOf(g.v2), "memory") {
		return no("there is no memory controller")
	}
	dirs := []string{g.v2 + "/system.slice", g.v2 + "/init.scope"}
	if own, err := ownGroup(g.v2); err == nil {
		dirs = append(dirs, own)
	}
	for _, d := range dirs {
		if _, err := os.Stat(d + "/memory.max"); err != nil {
			continue
		}
		if _, err := os.Stat(d + "/memory.swap.max"); err != nil {
			return no("cgroup v2's memory controller does not count swap")
		}
		return yes("")
	}
	return unknown("no group with a memory limit was found to look into")
}
