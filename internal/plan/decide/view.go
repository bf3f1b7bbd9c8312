package decide

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// devices is the nodes of /dev: those that every program expects, then the user's. With
// --privileged the user's are the host's.
func (m *maker) devices() []spec.Device {
	nodes := plan.StandardDevices()
	for _, d := range m.c.Devices {
		if strings.HasPrefix(d.Path, "/dev/") {
			nodes = append(nodes, d)
		}
	}
	return nodes
}

// makeDev makes /dev. Who is root of a user namespace only can make no node (user_namespaces(7)):
// then it has none, and shows those of the host (attachDevices).
func (m *maker) makeDev() {
	dev := plan.MakeDev{Console: m.c.Process.Terminal, Root: m.owner, As: plan.DevMount}
	if !m.in.Host.Nested {
		dev.Nodes = m.devices()
	}
	m.onHost(dev)
	for _, d := range m.hostDevices() {
		m.onHost(plan.CloneMount{Path: d.HostPath, What: "the host's " + d.HostPath, As: plan.Handle("dev:" + d.Path)})
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
		m.inChild(plan.Attach{Mount: plan.Handle("dev:" + d.Path), Target: d.Path, File: true, What: "the host's " + d.HostPath})
	}
}

// mountHandle names the i-th of the user's mounts, fileHandle the i-th made file.
func mountHandle(i int) plan.Handle { return plan.Handle("mount" + strconv.Itoa(i)) }
func fileHandle(i int) plan.Handle  { return plan.Handle("file" + strconv.Itoa(i)) }

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
		m.onHost(plan.CloneMount{Path: f.Path, Recursive: f.Recursive, What: f.What, As: fileHandle(i)})
		if f.Shift && m.shifted() {
			m.onHost(plan.IDMap{Mount: fileHandle(i), What: f.What})
		}
		if f.ReadOnly {
			m.onHost(plan.Restrict{Mount: fileHandle(i), Recursive: f.Recursive, ReadOnly: true, NoSuid: true, NoDev: true, What: f.What})
		}
	}
	for i, mnt := range m.c.Mounts {
		if mnt.Type == spec.Tmpfs {
			continue
		}
		h, what := mountHandle(i), sourceWords(mnt, m.in.Sources[i])
		m.onHost(plan.CloneMount{Path: m.in.Sources[i].Path, Recursive: mnt.Recursive, What: what + m.relabelled(mnt), As: h})
		if m.shifted() && !mnt.NoIDMap {
			m.onHost(plan.IDMap{Mount: h, Recursive: mnt.Recursive, Optional: true, What: what})
		}
		if m.in.Sources[i].Seed {
			m.onHost(plan.Seed{From: plan.RootMount, Target: mnt.Target, To: h, Volume: mnt.Source, Root: m.owner})
		}
		r := plan.Restrict{Mount: h, Recursive: mnt.Recursive, ReadOnly: mnt.ReadOnly, NoExec: mnt.NoExec, NoSuid: mnt.NoSuid,
			NoDev: mnt.NoDev || m.private(), Propagation: strings.TrimPrefix(mnt.Propagation, "r"), What: what}
		if r.Propagation == "" {
			r.Propagation = "private"
		}
		m.onHost(r)
	}
	if m.hostNet() {
		m.onHost(plan.CloneMount{Path: "/sys", Recursive: true, What: "the host's /sys", As: "sys"},
			plan.Restrict{Mount: "sys", Recursive: true, ReadOnly: true, NoExec: true, NoSuid: true, NoDev: true, Propagation: "private", What: "the host's /sys"})
	}
	if m.hostPID() {
		m.onHost(plan.CloneMount{Path: "/proc", What: "the host's /proc", As: "proc"},
			plan.Restrict{Mount: "proc", NoExec: true, NoSuid: true, NoDev: true, Propagation: "private", What: "the host's /proc"})
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
func (m *maker) files() []plan.File {
	var out []plan.File
	for _, f := range append(append([]plan.File(nil), m.in.Root.Binds...), m.in.Files...) {
		if !m.userMounts(f.Target) {
			out = append(out, f)
		}
	}
	return out
}

// madeName and madeHandle call a file by the last part of its path: "/etc/hosts" is "hosts".
func madeName(f plan.Made) string        { return path.Base(f.Target) }
func madeHandle(f plan.Made) plan.Handle { return plan.Handle(madeName(f)) }

// made is the files made for the container, unless the user mounts something there.
func (m *maker) made() []plan.Made {
	var out []plan.Made
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

// relabelled says what was done to a source before the plan is carried out.
func (m *maker) relabelled(mnt spec.Mount) string {
	if mnt.Relabel == "" || m.c.Security.SELinuxMount == "" {
		return ""
	}
	return ", all of it labelled for SELinux (" + string(mnt.Relabel) + ")"
}

func sourceWords(mnt spec.Mount, src plan.Source) string {
	if mnt.Type == spec.Volume {
		return "volume " + mnt.Source
	}
	return src.Path
}

// view builds the file system that the container sees.
func (m *maker) view() error {
	if m.c.Process.Terminal {
		m.inChild(plan.OpenTerminal{As: plan.Terminal, Size: m.c.Process.Size, Any: !m.ttyGroup()})
	}
	m.inChild(plan.Propagation{Mode: "private"}, plan.Stow{Mounts: m.in.Root.Overlay.Parts()}, plan.EnterRoot{Mount: plan.RootMount})
	m.kernelMounts()
	m.attachFiles(false)
	for _, f := range m.made() {
		m.inChild(plan.Attach{Mount: madeHandle(f), Target: f.Target, File: true, What: "its own " + f.Target, Forget: plan.DevMount, Name: madeName(f)})
	}
	m.userView()
	m.attachFiles(true)
	if m.c.IsSystemd() && !m.userMounts(machineID) {
		m.inChild(plan.Write{Path: machineID, Content: string(m.c.ID[:min(32, len(m.c.ID))]) + "\n"})
	}
	m.inChild(plan.Pivot{})
	for _, name := range sortedKeys(m.c.Sysctls) {
		m.inChild(plan.Sysctl{Name: name, Value: m.c.Sysctls[name]})
	}
	for _, f := range m.files() {
		for _, p := range f.Hide {
			m.inChild(plan.Mask{Path: p})
		}
	}
	for _, p := range m.c.Security.Masked {
		m.inChild(plan.Mask{Path: p})
	}
	for _, p := range m.c.Security.ReadOnlyPaths {
		m.inChild(plan.ReadOnlyPath{Path: p})
	}
	if m.c.Root.ReadOnly {
		m.inChild(plan.ReadOnlyRoot{})
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
			m.inChild(plan.Attach{Mount: fileHandle(i), Target: f.Target, File: f.File, What: f.What})
		}
	}
}

// kernelMounts are /proc, /dev and /sys.
func (m *maker) kernelMounts() {
	add := func(f plan.MountFS) {
		if !m.userMounts(f.Target) {
			m.inChild(f)
		}
	}
	if m.hostPID() {
		m.inChild(plan.Attach{Mount: "proc", Target: "/proc", What: "the host's /proc"})
	} else {
		add(plan.MountFS{Type: "proc", Target: "/proc", NoSuid: true, NoDev: true, NoExec: true})
	}
	// Also below a mount of the user's: later steps take null from it.
	m.inChild(plan.Attach{Mount: plan.DevMount, Target: "/dev", What: "the tmpfs of devices"})
	m.attachDevices()
	if m.c.Process.Terminal {
		m.inChild(plan.Attach{Mount: plan.Terminal, Target: "/dev/pts", What: "the devpts of the terminal"})
	} else {
		pts := plan.MountFS{Type: "devpts", Target: "/dev/pts", NoSuid: true, NoExec: true, Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}}
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
		add(plan.MountFS{Type: "tmpfs", Target: "/dev/shm", NoSuid: true, NoDev: true, NoExec: true,
			Options: []string{"mode=1777", "size=" + strconv.FormatInt(m.shmSize(), 10)}})
		add(plan.MountFS{Type: "mqueue", Target: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Missing: true})
	}
	if m.hostNet() {
		m.inChild(plan.Attach{Mount: "sys", Target: "/sys", What: "the host's /sys, read-only"})
	} else {
		add(plan.MountFS{Type: "sysfs", Target: "/sys", ReadOnly: !m.c.Security.Privileged, NoSuid: true, NoDev: true, NoExec: true})
	}
	for _, f := range m.in.Groups.Mount {
		add(f)
	}
}

// ttyGroup reports whether there is the group that terminals belong to wherever there is one.
func (m *maker) ttyGroup() bool {
	_, ok := m.hostGroup(plan.Identity{GID: 5})
	return ok
}

// hostShm shows the host's /dev/shm to a container in the host's IPC namespace.
func (m *maker) hostShm() {
	if !m.userMounts("/dev/shm") {
		m.host = insertBeforeRelease(m.host, plan.CloneMount{Path: "/dev/shm", What: "the host's /dev/shm", As: "shm"})
		m.inChild(plan.Attach{Mount: "shm", Target: "/dev/shm", What: "the host's /dev/shm"})
	}
}

func insertBeforeRelease(steps []plan.Step, s plan.Step) []plan.Step {
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
		m.inChild(plan.Attach{Mount: mountHandle(i), Target: mnt.Target, File: m.in.Sources[i].File,
			What: sourceWords(mnt, m.in.Sources[i])})
	}
}

func tmpfsOf(mnt spec.Mount) plan.MountFS {
	mode := uint32(0o1777)
	if mnt.Mode != nil {
		mode = *mnt.Mode
	}
	opts := []string{fmt.Sprintf("mode=%04o", mode)}
	if mnt.Size > 0 {
		opts = append(opts, "size="+strconv.FormatInt(mnt.Size, 10))
	}
	return plan.MountFS{Type: "tmpfs", Target: mnt.Target, Options: opts, ReadOnly: mnt.ReadOnly,
		NoSuid: true, NoDev: true, NoExec: !mnt.Exec}
}
