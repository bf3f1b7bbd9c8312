package probe

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

func terminals() []feature {
	return []feature{
		{"devpts instances", "gives each container terminals of its own", "run -t is refused",
			"CONFIG_UNIX98_PTYS (Linux 4.7)", used, devpts},
		{"TIOCGPTPEER", "opens a container's terminal without a path that the container could change", "run -t is refused",
			"Linux 4.13", used, ptpeer},
	}
}

// devpts makes an instance that no path leads to, with a terminal in it.
func devpts(h *host) finding {
	mnt, err := newFS("devpts", "ptmxmode=0666")
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(mnt)
	return terminal(unix.Openat(mnt, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0))
}

func ptpeer(*host) finding {
	return terminal(unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0))
}

// terminal opens the other side of one.
func terminal(master int, err error) finding {
	if err != nil {
		return judge(err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return judge(err)
	}
	fd, err := kernel.OpenPeer(master)
	if err == nil {
		unix.Close(fd)
	}
	return judge(err)
}

func others() []feature {
	return []feature{
		{"FUSE", "shows a container file systems that programs make", "such file systems cannot be mounted",
			"CONFIG_FUSE_FS, module fuse, a device file /dev/fuse", later, fuse},
		{"userfaultfd", "restores a container's memory while it already runs", "a restored container starts when all its memory is there",
			"CONFIG_USERFAULTFD (Linux 5.11 for ordinary users)", later, userfaultfd},
		{"io_uring", "is what some programs in containers expect; the default profile refuses it", "a profile that allows it has no effect",
			"CONFIG_IO_URING (Linux 5.1), sysctl kernel.io_uring_disabled=0", later, ioUring},
		{"checkpoint", "saves and restores running containers (CRIU)", "checkpoint and restore are refused",
			"CONFIG_CHECKPOINT_RESTORE, CONFIG_KCMP, CONFIG_UNIX_DIAG; package criu", later, checkpoint},
		{"binfmt_misc", "runs images of other architectures through an emulator", "images of other architectures do not run",
			"CONFIG_BINFMT_MISC; package qemu-user-static", used, binfmtMisc},
		{"systemd", "starts containers with the machine (PID 1 is systemd)", "something else has to start them",
			"a distribution with systemd, and Corten outside of containers", later, systemd},
		{"D-Bus", "has systemd make scopes and units for containers", "containers are in control groups that Corten makes itself",
			"package dbus", later, socket("/run/dbus/system_bus_socket", unix.SOCK_STREAM)},
		{"journald", "takes the logs of containers (--log-driver journald)", "that driver is refused",
			"systemd-journald", later, socket("/run/systemd/journal/socket", unix.SOCK_DGRAM)},
	}
}

func fuse(*host) finding { return device("/dev/fuse") }

// device opens a device file.
func device(path string) finding {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
		unix.Close(fd)
	case unix.ENOENT:
		return no("there is no " + path)
	case unix.EACCES:
		return no("this user may not open " + path)
	}
	return judge(err)
}

func userfaultfd(*host) finding {
	fd, err := kernel.Userfaultfd()
	if err == nil {
		unix.Close(fd)
	}
	return judge(err)
}

func ioUring(*host) finding {
	err := kernel.IOUring()
	if errno(err) == unix.EPERM {
		return no(words(err) + sysctls("kernel.io_uring_disabled"))
	}
	return judge(err)
}

// checkpoint looks for what CRIU cannot do without: kcmp, sockets that can be listed, and
// process numbers that can be chosen.
func checkpoint(*host) finding {
	a, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return unknown("standard input is closed")
	}
	defer unix.Close(a)
	if same, err := kernel.SameFile(0, a); err != nil {
		return judge(err)
	} else if !same {
		return no("kcmp takes one file for two")
	}
	if _, err := os.Stat("/proc/sys/kernel/ns_last_pid"); err != nil {
		return no("the kernel is built without CONFIG_CHECKPOINT_RESTORE")
	}
	if err := trySockDiag(); err != nil {
		return judge(err)
	}
	if _, err := exec.LookPath("criu"); err != nil {
		return no("the kernel can; the program criu is not installed")
	}
	return yes("")
}

// trySockDiag lists one Unix socket that does not exist, sock_diag(7): a kernel that could
// list says ENOENT.
func trySockDiag() error {
	s, err := dial(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer s.close()
	const byFamily = 20 // SOCK_DIAG_BY_FAMILY
	// struct unix_diag_req: family, protocol, pad, states, inode, show, cookie.
	b := append(header(byFamily, unix.NLM_F_REQUEST|unix.NLM_F_ACK), unix.AF_UNIX, 0, 0, 0)
	b = append(b, make([]byte, 20)...)
	for i := range 8 {
		b[len(b)-1-i] = 0xff // no cookie
	}
	b[unix.SizeofNlMsghdr+8] = 1 // an inode that no socket has
	if err := s.ask(finish(b), 1); err != unix.ENOENT {
		return err
	}
	return nil
}

func binfmtMisc(*host) finding {
	const dir = "/proc/sys/fs/binfmt_misc"
	s, err := line(dir + "/status")
	switch {
	case err == nil && s == "enabled":
		entries, _ := os.ReadDir(dir)
		var names []string
		for _, e := range entries {
			if n := e.Name(); n != "register" && n != "status" {
				names = append(names, n)
			}
		}
		return yes("registered: " + orNone(names))
	case err == nil:
		return no("switched off" + sysctls("fs.binfmt_misc.status"))
	case !errors.Is(err, fs.ErrNotExist):
		return unknown(words(err))
	}
	list, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(list), "\tbinfmt_misc\n") {
		return no("the kernel can; nothing is mounted at " + dir)
	}
	return no("nothing is mounted at " + dir)
}

// systemd asks as sd_booted(3) does.
func systemd(*host) finding {
	if st, err := os.Lstat("/run/systemd/system"); err == nil && st.IsDir() {
		return yes("")
	}
	s, err := line("/proc/1/comm")
	if err != nil {
		return no("PID 1 is something else")
	}
	return no("PID 1 is " + s)
}

// socket connects to a service and says nothing.
func socket(path string, kind int) func(*host) finding {
	return func(*host) finding {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return unknown(words(err))
		}
		defer unix.Close(fd)
		switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
		case nil:
			return yes("")
		case unix.EAGAIN:
			return yes("busy")
		case unix.ENOENT:
			return no("there is no " + path)
		case unix.ECONNREFUSED:
			return no("nobody listens at " + path)
		default:
			return unknown(words(err))
		}
	}
}
