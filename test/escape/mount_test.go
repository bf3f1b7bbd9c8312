package escape_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// markMount is the source of what attempts mount: the host must never see it.
const markMount = "corten-escape-mark"

func mountAttempts() []attempt {
	bound := usual | unfiltered | unmasked // where there is no CAP_SYS_ADMIN, or no call to use it
	return []attempt{
		{"mount a tmpfs", bound, caps | loose, func() error { return unix.Mount(markMount, "/tmp", "tmpfs", 0, "") }},
		{"mount a proc", bound, caps | loose, func() error { return unix.Mount(markMount, "/tmp", "proc", 0, "") }},
		{"mount a sysfs", bound, caps | loose, func() error { return unix.Mount(markMount, "/tmp", "sysfs", 0, "") }},
		{"mount an overlay", bound, caps | loose, mountOverlay},
		{"mount a bind", bound, caps | loose, func() error { return unix.Mount("/usr", "/tmp", "", unix.MS_BIND, "") }},
		{"share mounts with the host", bound, caps | loose, func() error { return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") }},
		{"make /proc/sys writable", bound, caps, writable("/proc/sys")},
		{"make /sys writable", bound, caps | loose, writable("/sys")},
		{"uncover kcore", bound, caps, func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) }},
		{"uncover kcore and read it", everywhere, 0, uncovered("/proc/kcore", unix.O_RDONLY)},
		{"uncover core_pattern and write it", everywhere, 0, uncovered("/proc/sys/kernel/core_pattern", unix.O_WRONLY, "/proc/sys")},
		{"take the root away", everywhere, 0, takeRootAway},
		{"open a file system of memory", bound, caps | loose, func() error { _, err := unix.Fsopen("tmpfs", 0); return err }},
		{"mount an image of a file system", everywhere | shared, rootful, mountImage},
		{"clone a mount", bound, caps | loose, func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE); return err }},
		{"move a mount", bound, caps | loose, moveMount},
		{"change a mount", bound, caps | loose, func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/proc", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSYMFOLLOW})
		}},
		{"shift a mount's owners", everywhere, 0, shiftOwners},
		{"pick a file system", bound, caps | loose, func() error { _, err := unix.Fspick(unix.AT_FDCWD, "/dev/shm", 0); return err }},
		{"swap the root", bound | caps, loose, reaches(unix.SYS_PIVOT_ROOT, unix.EFAULT)},
		{"mount cgroups and write them", everywhere | shared, hostlike, writeCgroups},
		{"make a user namespace", usual | unmasked, unfiltered, inNewNamespaces(syscall.CLONE_NEWUSER, "true")},
		{"make a user namespace by clone3", usual | unmasked, unfiltered, reaches(unix.SYS_CLONE3, unix.EINVAL)},
		{"get a fresh proc from new namespaces", usual | unfiltered, loose,
			inNewNamespaces(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS|syscall.CLONE_NEWPID, "freshproc")},
		{"get a writable sys from new namespaces", usual | unfiltered | caps, 0,
			inNewNamespaces(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS|syscall.CLONE_NEWNET, "freshsys")},
		{"uncover a mask from new namespaces", usual | unfiltered, 0,
			inNewNamespaces(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS, "uncover")},
		{"open the host's file by its handle", everywhere, rootful, openByHandle("/attack")},
		{"open the host's file by its handle, by the root", everywhere, 0, openByHandle("/")},
		{"climb to the host's user namespace", everywhere, 0, climb("user", unix.NS_GET_PARENT)},
		{"climb to the owner of the user namespace", everywhere, 0, climb("user", unix.NS_GET_USERNS)},
		{"climb to the host's pid namespace", everywhere, 0, climb("pid", unix.NS_GET_PARENT)},
		{"find mount namespaces of others", everywhere, 0, otherMountNamespaces},
		{"set an attribute of overlayfs", everywhere, rootful, setOverlayAttribute},
		{"make a whiteout", everywhere | rootful, 0, func() error { return unix.Mknod("/whiteout", unix.S_IFCHR, 0) }},
	}
}

func mountOverlay() error {
	for _, d := range []string{"/dev/shm/l", "/dev/shm/u", "/dev/shm/w"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return unix.Mount(markMount, "/tmp", "overlay", 0, "lowerdir=/dev/shm/l,upperdir=/dev/shm/u,workdir=/dev/shm/w,userxattr")
}

func writable(path string) func() error {
	return func() error { return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, "") }
}

// uncovered takes a mask or a read-only mount off and then tries the file below.
func uncovered(path string, flag int, mounts ...string) func() error {
	return func() error {
		for _, m := range append(mounts, path) {
			_ = unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_BIND, "")
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR {
			return fmt.Errorf("%w: it is still covered", errHeld)
		}
		return opensFor(path, flag)()
	}
}

// takeRootAway looks for the host's tree below the container's root: it unmounts that, and
// enters the own mount namespace again, which leads to the root that is left.
func takeRootAway() error {
	ns, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	first := unix.Unmount("/", unix.MNT_DETACH)
	// A thread that shares its root with others may not enter.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return errors.Join(first, err)
	}
	_, err = os.ReadFile(os.Getenv("MARK"))
	return errors.Join(first, err)
}

// mountImage has the kernel read a file system that the attacker could have made.
func mountImage() error {
	fs, err := unix.Fsopen("erofs", 0)
	if err != nil {
		return err
	}
	if err := unix.FsconfigSetString(fs, "source", "/attack/image.erofs"); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	_, err = unix.Fsmount(fs, 0, 0)
	return err
}

func moveMount() error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/shm", unix.OPEN_TREE_CLONE)
	if err != nil {
		return err
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, "/tmp", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// shiftOwners would make the host's root the owner of what is below /attack.
func shiftOwners() error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/attack", unix.OPEN_TREE_CLONE)
	if err != nil {
		return err
	}
	ns, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// writeCgroups mounts every hierarchy and looks for a file that would let it out: the
// release agent, the limits above it, or processes of others.
func writeCgroups() error {
	var last error
	for _, opts := range []string{"", "memory", "cpu", "cpuset", "devices", "freezer", "pids", "blkio", "none,name=systemd"} {
		fstype := "cgroup"
		if opts == "" {
			fstype = "cgroup2"
		}
		dir, err := os.MkdirTemp("", "cgroup")
		if err != nil {
			return err
		}
		if err := unix.Mount(markMount, dir, fstype, 0, opts); err != nil {
			last = err
			continue
		}
		for _, f := range []string{"release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow", "memory.limit_in_bytes", "cgroup.subtree_control", "memory.max"} {
			if err := opensFor(dir+"/"+f, unix.O_WRONLY)(); err == nil {
				fmt.Println(opts, f)
				return nil
			} else {
				last = err
			}
		}
	}
	return last
}

// inNewNamespaces runs a tool as root of a new user namespace.
func inNewNamespaces(flags uintptr, name string) func() error {
	return func() error {
		cmd := exec.Command("/proc/self/exe", "tool", name)
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		groups := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, UidMappings: ids, GidMappings: groups}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

func freshProc() error {
	if err := unix.Mount(markMount, "/tmp", "proc", 0, ""); err != nil {
		return err
	}
	return reads("/tmp/interrupts", "")()
}

func freshSys() error {
	if err := unix.Mount(markMount, "/tmp", "sysfs", 0, ""); err != nil {
		return err
	}
	return writeSomewhere("/tmp", func(path string) bool {
		return strings.HasPrefix(path, "/tmp/class/net/") || strings.HasPrefix(path, "/tmp/devices/virtual/net/")
	})()
}

// openByHandle is the attack called Shocker: a handle names a file by number, past every
// directory.
func openByHandle(mount string) func() error {
	return func() error {
		kind, hexed, _ := strings.Cut(os.Getenv("HANDLE"), ":")
		n, err := strconv.Atoi(kind)
		if err != nil {
			return err
		}
		b, err := hex.DecodeString(hexed)
		if err != nil {
			return err
		}
		dir, err := unix.Open(mount, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		_, err = unix.OpenByHandleAt(dir, unix.NewFileHandle(int32(n), b), unix.O_RDONLY)
		return err
	}
}

// climb asks one of our namespaces for another that we were not given.
func climb(ns string, request uint) func() error {
	return func() error {
		fd, err := unix.Open("/proc/self/ns/"+ns, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		_, err = unix.IoctlRetInt(fd, request)
		return err
	}
}

// otherMountNamespaces walks the kernel's list of them (Linux 6.12).
func otherMountNamespaces() error {
	fd, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	const next, prev = 0x8010b70b, 0x8010b70c // NS_MNT_GET_NEXT, NS_MNT_GET_PREV
	var last error
	for _, request := range []uint{next, prev} {
		other, err := unix.IoctlRetInt(fd, request)
		if err != nil {
			last = err
			continue
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if last = unix.Setns(other, unix.CLONE_NEWNS); last == nil {
			return nil
		}
	}
	return last
}

// setOverlayAttribute would have the overlay take another file for this one.
func setOverlayAttribute() error {
	if err := os.WriteFile("/redirected", []byte("x"), 0o644); err != nil {
		return err
	}
	return unix.Setxattr("/redirected", "trusted.overlay.redirect", []byte("/etc/shadow"), 0)
}
