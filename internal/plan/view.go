package plan

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// devices is the nodes of /dev: those that every program expects, then the user's. With
// --privileged the user's are the host's.
func (m *maker) devices() []spec.Device {
	nodes := standardDevices()
	for _, d := range m.c.Devices {
		if strings.HasPrefix(d.Path, "/dev/") {
			nodes = append(nodes, d)
		}
	}
	return nodes
}

func standardDevices() []spec.Device {
	return []spec.Device{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, Mode: 0o666},
		{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, Mode: 0o666},
		{Path: "/dev/full", Type: "c", Major: 1, Minor: 7, Mode: 0o666},
		{Path: "/dev/random", Type: "c", Major: 1, Minor: 8, Mode: 0o666},
		{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9, Mode: 0o666},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0, Mode: 0o666},
	}
}

// makeDev makes /dev. Who is root of a user namespace only can make no node (user_namespaces(7)):
// then it has none, and shows those of the host (attachDevices).
func (m *maker) makeDev() {
	dev := MakeDev{Console: m.c.Process.Terminal, Root: m.owner, As: DevMount}
	if !m.in.Host.Nested {
		dev.Nodes = m.devices()
	}
	m.onHost(dev)
	for _, d := range m.hostDevices() {
		m.onHost(CloneMount{Path: d.HostPath, What: "the host's " + d.HostPath, As: Handle("dev:" + d.Path)})
	}
}

// hostDevices is the nodes of the host that are shown.
func (m *maker) hostDevices() []spec.Device {
	if !m.in.Host.Nested {
		return nil
	}
	nodes := m.devices()
	for i := range nodes {
		if nodes[i].HostPath == "" {
			nodes[i].HostPath = nodes[i].Path
		}
	}
	return nodes
}

func (m *maker) attachDevices() {
	for _, d := range m.hostDevices() {
		m.inChild(Attach{Mount: Handle("dev:" + d.Path), Target: d.Path, File: true, What: "the host's " + d.HostPath})
	}
}

// mountHandle names the i-th of the user's mounts, fileHandle the i-th made file.
func mountHandle(i int) Handle { return Handle("mount" + strconv.Itoa(i)) }
func fileHandle(i int) Handle  { return Handle("file" + strconv.Itoa(i)) }

// checkTargets refuses mounts that put something else in the place of /proc: an image can
// ask for volumes too, and programs believe what /proc says. Single files that lxcfs and
// its like bring are allowed, and so is the host's own /proc.
func (m *maker) checkTargets() error {
	for i, mnt := range m.c.Mounts {
		switch target := path.Clean(mnt.Target); {
		case target != "/proc" && !strings.HasPrefix(target, "/proc/"):
		case target == "/proc" && m.in.Sources[i].Path == "/proc":
		case m.in.Sources[i].File && (path.Dir(target) == "/proc" || target == "/proc/net/dev"):
		default:
			return errs.Newf(errs.Invalid, "plan mount", mnt.Target, "it would lie over the kernel's own /proc").
				WithHint("choose another target; only single files directly in /proc can be mounted over")
		}
	}
	return nil
}

// openMounts opens what the host shows the container.
func (m *maker) openMounts() error {
	if len(m.in.Sources) != len(m.c.Mounts) {
		return errs.Newf(errs.Internal, "plan mounts", "", "a source for each mount is wanted")
	}
	if err := m.checkTargets(); err != nil {
		return err
	}
	for i, f := range m.files() {
		m.onHost(CloneMount{Path: f.Path, Recursive: f.Recursive, What: f.What, As: fileHandle(i)})
		if f.Shift && m.shifted() {
			m.onHost(IDMap{Mount: fileHandle(i), What: f.What})
		}
		if f.ReadOnly {
			m.onHost(Restrict{Mount: fileHandle(i), Recursive: f.Recursive, ReadOnly: true, NoSuid: true, NoDev: true, What: f.What})
		}
	}
	for i, mnt := range m.c.Mounts {
		if mnt.Type == spec.Tmpfs {
			continue
		}
		h, what := mountHandle(i), sourceWords(mnt, m.in.Sources[i])
		m.onHost(CloneMount{Path: m.in.Sources[i].Path, Recursive: mnt.Recursive, What: what, As: h})
		if m.shifted() && !mnt.NoIDMap {
			m.onHost(IDMap{Mount: h, Recursive: mnt.Recursive, Optional: true, What: what})
		}
		if m.in.Sources[i].Seed {
			m.onHost(Seed{From: RootMount, Target: mnt.Target, To: h, Volume: mnt.Source, Root: m.owner})
		}
		r := Restrict{Mount: h, Recursive: mnt.Recursive, ReadOnly: mnt.ReadOnly, NoExec: mnt.NoExec, NoSuid: mnt.NoSuid,
			NoDev: mnt.NoDev || m.private(), Propagation: strings.TrimPrefix(mnt.Propagation, "r"), What: what}
		if r.Propagation == "" {
			r.Propagation = "private"
		}
		m.onHost(r)
	}
	if m.hostNet() {
		m.onHost(CloneMount{Path: "/sys", Recursive: true, What: "the host's /sys", As: "sys"},
			Restrict{Mount: "sys", Recursive: true, ReadOnly: true, NoExec: true, NoSuid: true, NoDev: true, Propagation: "private", What: "the host's /sys"})
	}
	if m.hostPID() {
		m.onHost(CloneMount{Path: "/proc", What: "the host's /proc", As: "proc"},
			Restrict{Mount: "proc", NoExec: true, NoSuid: true, NoDev: true, Propagation: "private", What: "the host's /proc"})
	}
	return nil
}

// hostNet reports whether the container is in a network namespace that is not its own: then
// it may not make a sysfs.
func (m *maker) hostNet() bool { return m.foreign() && !fresh(m.c.Namespaces.Net) }

// hostPID reports whether the container has the host's processes but not its users: then it
// may not make a proc and is shown the host's.
func (m *maker) hostPID() bool { return m.foreign() && !fresh(m.c.Namespaces.PID) }

// foreign reports whether the container has not the host's users.
func (m *maker) foreign() bool { return m.private() || m.in.Host.Nested }

// files is all that is bound from the host besides the user's mounts: parts of the host
// platform, then made files, unless the user mounts something there.
func (m *maker) files() []File {
	var out []File
	for _, f := range append(append([]File(nil), m.in.Root.Binds...), m.in.Files...) {
		if !m.userMounts(f.Target) {
			out = append(out, f)
		}
	}
	return out
}

// made is the files made for the container, unless the user mounts something there.
func (m *maker) made() []Made {
	var out []Made
	for _, f := range m.in.Made {
		if !m.userMounts(f.Target) {
			out = append(out, f)
		}
	}
	return out
}

func (m *maker) userMounts(target string) bool {
	for _, mnt := range m.c.Mounts {
		if path.Clean(mnt.Target) == target {
			return true
		}
	}
	return false
}

func sourceWords(mnt spec.Mount, src Source) string {
	if mnt.Type == spec.Volume {
		return "volume " + mnt.Source
	}
	return src.Path
}

// view builds the file system that the container sees.
func (m *maker) view() error {
	if m.c.Process.Terminal {
		m.inChild(OpenTerminal{As: Terminal, Size: m.c.Process.Size, Any: !m.ttyGroup()})
	}
	m.inChild(Propagation{"private"}, Stow{m.in.Root.Overlay.uses()}, EnterRoot{RootMount})
	m.kernelMounts()
	m.attachFiles(false)
	for _, f := range m.made() {
		m.inChild(Attach{Mount: f.handle(), Target: f.Target, File: true, What: "its own " + f.Target, Forget: DevMount, Name: f.name()})
	}
	m.userView()
	m.attachFiles(true)
	if m.c.IsSystemd() && !m.userMounts(machineID) {
		m.inChild(Write{Path: machineID, Content: string(m.c.ID[:min(32, len(m.c.ID))]) + "\n"})
	}
	m.inChild(Pivot{})
	for _, name := range sortedKeys(m.c.Sysctls) {
		m.inChild(Sysctl{name, m.c.Sysctls[name]})
	}
	for _, f := range m.files() {
		for _, p := range f.Hide {
			m.inChild(Mask{p})
		}
	}
	for _, p := range m.c.Security.Masked {
		m.inChild(Mask{p})
	}
	for _, p := range m.c.Security.ReadOnlyPaths {
		m.inChild(ReadOnlyPath{p})
	}
	if m.c.Root.ReadOnly {
		m.inChild(ReadOnlyRoot{})
	}
	return nil
}

// machineID is what systemd and many others know a machine by, machine-id(5). It is written, not
// mounted: systemd would try to make a mounted one last, and fail for want of the right to
// mount. An image may have one that all its containers would share.
const machineID = "/etc/machine-id"

// attachFiles attaches the host's files below the user's mounts, or those over them.
func (m *maker) attachFiles(over bool) {
	for i, f := range m.files() {
		if f.Over == over {
			m.inChild(Attach{Mount: fileHandle(i), Target: f.Target, File: f.File, What: f.What})
		}
	}
}

// kernelMounts are /proc, /dev and /sys.
func (m *maker) kernelMounts() {
	add := func(f MountFS) {
		if !m.userMounts(f.Target) {
			m.inChild(f)
		}
	}
	if m.hostPID() {
		m.inChild(Attach{Mount: "proc", Target: "/proc", What: "the host's /proc"})
	} else {
		add(MountFS{Type: "proc", Target: "/proc", NoSuid: true, NoDev: true, NoExec: true})
	}
	// Also below a mount of the user's: later steps take null from it.
	m.inChild(Attach{Mount: DevMount, Target: "/dev", What: "the tmpfs of devices"})
	m.attachDevices()
	if m.c.Process.Terminal {
		m.inChild(Attach{Mount: Terminal, Target: "/dev/pts", What: "the devpts of the terminal"})
	} else {
		pts := MountFS{Type: "devpts", Target: "/dev/pts", NoSuid: true, NoExec: true, Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}}
		if m.ttyGroup() {
			pts.Options = append(pts.Options, "gid=5")
		}
		add(pts)
	}
	switch ipc := m.c.Namespaces.IPC; {
	case ipc.Mode == spec.None:
	case ipc.Mode == spec.Host:
		m.hostShm()
	default:
		add(MountFS{Type: "tmpfs", Target: "/dev/shm", NoSuid: true, NoDev: true, NoExec: true,
			Options: []string{"mode=1777", "size=" + strconv.FormatInt(m.shmSize(), 10)}})
		add(MountFS{Type: "mqueue", Target: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Missing: true})
	}
	if m.hostNet() {
		m.inChild(Attach{Mount: "sys", Target: "/sys", What: "the host's /sys, read-only"})
	} else {
		add(MountFS{Type: "sysfs", Target: "/sys", ReadOnly: !m.c.Security.Privileged, NoSuid: true, NoDev: true, NoExec: true})
	}
	for _, f := range m.in.Groups.Mount {
		add(f)
	}
}

// ttyGroup reports whether there is the group that terminals belong to wherever there is one.
func (m *maker) ttyGroup() bool {
	_, ok := m.hostGroup(Identity{GID: 5})
	return ok
}

// hostShm shows the host's /dev/shm to a container in the host's IPC namespace.
func (m *maker) hostShm() {
	if !m.userMounts("/dev/shm") {
		m.host = insertBeforeRelease(m.host, CloneMount{Path: "/dev/shm", What: "the host's /dev/shm", As: "shm"})
		m.inChild(Attach{Mount: "shm", Target: "/dev/shm", What: "the host's /dev/shm"})
	}
}

func insertBeforeRelease(steps []Step, s Step) []Step {
	last := steps[len(steps)-1]
	return append(append(steps[:len(steps)-1:len(steps)-1], s), last)
}

// shmSize is bytes of /dev/shm; 64 MiB unless the user says otherwise.
func (m *maker) shmSize() int64 {
	if m.c.Root.ShmSize > 0 {
		return m.c.Root.ShmSize
	}
	return 64 << 20
}

// userView attaches the user's mounts, the ones nearest to the root first.
func (m *maker) userView() {
	order := make([]int, len(m.c.Mounts))
	for i := range order {
		order[i] = i
	}
	byDepth(order, func(i int) string { return m.c.Mounts[i].Target })
	for _, i := range order {
		mnt := m.c.Mounts[i]
		if mnt.Type == spec.Tmpfs {
			m.inChild(tmpfsOf(mnt))
			continue
		}
		m.inChild(Attach{Mount: mountHandle(i), Target: mnt.Target, File: m.in.Sources[i].File,
			What: sourceWords(mnt, m.in.Sources[i])})
	}
}

func tmpfsOf(mnt spec.Mount) MountFS {
	mode := uint32(0o1777)
	if mnt.Mode != nil {
		mode = *mnt.Mode
	}
	opts := []string{fmt.Sprintf("mode=%04o", mode)}
	if mnt.Size > 0 {
		opts = append(opts, "size="+strconv.FormatInt(mnt.Size, 10))
	}
	return MountFS{Type: "tmpfs", Target: mnt.Target, Options: opts, ReadOnly: mnt.ReadOnly,
		NoSuid: true, NoDev: true, NoExec: !mnt.Exec}
}

// DefaultMasked and DefaultReadOnly are paths of /proc and /sys which tell of or act on the
// machine rather than the container.
func DefaultMasked() []string {
	return []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware"}
}

// DefaultReadOnly see DefaultMasked.
func DefaultReadOnly() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
