package escape_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errHeld says that a try did not get through, when no error of the kernel does.
var errHeld = errors.New("held")

// opensFor is a try that only opens a file: to write would change the machine.
func opensFor(path string, flag int) func() error {
	return func() error {
		fd, err := unix.Open(path, flag|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		return unix.Close(fd)
	}
}

// reads is a try that wants these words, or any, from a file.
func reads(path, want string) func() error {
	return func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, 64<<10)
		n, err := f.Read(b)
		if n == 0 {
			return fmt.Errorf("%w: %s is empty: %v", errHeld, path, err)
		}
		if !bytes.Contains(b[:n], []byte(want)) {
			return fmt.Errorf("%w: %s has no %q", errHeld, path, want)
		}
		return nil
	}
}

// lists is a try that wants any entry in a directory.
func lists(path string) func() error {
	return func() error {
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) == 0 {
			err = fmt.Errorf("%w: %s is empty", errHeld, path)
		}
		return err
	}
}

func procAttempts() []attempt {
	w, r := unix.O_WRONLY, unix.O_RDONLY
	return []attempt{
		{"find a descriptor besides 0, 1 and 2", everywhere, 0, nil},
		{"open sysrq-trigger", everywhere, rootful, opensFor("/proc/sysrq-trigger", w)},
		{"read kcore", everywhere, rootful, reads("/proc/kcore", "\x7fELF")},
		{"read timer_list", everywhere, rootful, reads("/proc/timer_list", "")},
		{"read interrupts", usual | unfiltered | caps, unmasked, reads("/proc/interrupts", "")},
		{"list the firmware's tables", usual | unfiltered | caps, unmasked, lists("/sys/firmware")},
		{"see keys of others", everywhere | shared, hostlike | bare, reads("/proc/keys", victimKey)},
		{"set core_pattern", everywhere, rootful, opensFor("/proc/sys/kernel/core_pattern", w)},
		{"set panic", everywhere, rootful, opensFor("/proc/sys/kernel/panic", w)},
		{"set the path of modprobe", everywhere, rootful, opensFor("/proc/sys/kernel/modprobe", w)},
		{"set the hot-plug helper", everywhere, rootful, opensFor("/proc/sys/kernel/hotplug", w)},
		{"register a binary format", everywhere, 0, opensFor("/proc/sys/fs/binfmt_misc/register", w)},
		{"set the file limit of the machine", everywhere, rootful, opensFor("/proc/sys/fs/file-max", w)},
		{"steer interrupts", everywhere, rootful, opensFor("/proc/irq/default_smp_affinity", w)},
		{"set the container's network", usual | unfiltered | unmasked | caps, loose, opensFor("/proc/sys/net/ipv4/ip_forward", w)},
		{"write somewhere in /proc/sys", everywhere, rootful, writeSomewhere("/proc/sys", ownSysctl)},
		{"write somewhere in /proc", everywhere, rootful, writeSomewhere("/proc", ownProc)},
		{"write somewhere in /sys", everywhere, rootful, writeSomewhere("/sys", ownSys)},
		{"write somewhere in /sys, remounted", everywhere, rootful, remounted("/sys", ownSys)},
		{"see processes of the host", everywhere, shared | hostlike | bare, func() error { return unix.Access("/proc/"+os.Getenv("VICTIM"), unix.F_OK) }},
		{"walk out by ..", everywhere | shared, bare, walkOut},
		{"leave by chroot", everywhere, 0, leaveByChroot},
		{"reach the host's file by /proc/self/root", everywhere | shared, bare, reads("/proc/self/root"+os.Getenv("MARK"), "secret")},
		{"be spared by the OOM killer", everywhere, 0, beSpared},
		{"open kmsg", everywhere, bare, opensFor("/dev/kmsg", r)},
	}
}

// Files that are the container's own, because one of its namespaces has them for itself.
func ownSysctl(path string) bool {
	for _, p := range []string{"/proc/sys/net/", "/proc/sys/user/", "/proc/sys/fs/mqueue/", "/proc/sys/kernel/shm", "/proc/sys/kernel/msg",
		"/proc/sys/kernel/sem", "/proc/sys/kernel/auto_msgmni", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pid_max"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

func ownProc(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/proc/"), "/")
	if first == "sys" || first == "self" || first == "thread-self" || first[0] >= '0' && first[0] <= '9' {
		return true
	}
	// Everybody on the host may set triggers here since Linux 6.4; they wake the setter.
	return first == "pressure"
}

func ownSys(path string) bool {
	return strings.HasPrefix(path, "/sys/class/net/") || strings.HasPrefix(path, "/sys/devices/virtual/net/")
}

// writeSomewhere looks for a file that opens for writing and is not the container's own.
func writeSomewhere(root string, own func(string) bool) func() error {
	return func() error {
		found := ""
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && path != root && own(path+"/") {
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if !d.Type().IsRegular() || own(path) {
				return nil
			}
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil
			}
			defer unix.Close(fd)
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
				return nil // a mask: the null device, which is the container's to write to
			}
			found = path
			return fs.SkipAll
		})
		if found == "" {
			return errHeld
		}
		fmt.Println(found)
		return nil
	}
}

// remounted makes a read-only mount writable first.
func remounted(root string, own func(string) bool) func() error {
	return func() error {
		err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND, "")
		if again := writeSomewhere(root, own)(); again == nil || err == nil {
			return again
		}
		return err
	}
}

func walkOut() error {
	path := strings.Repeat("../", 40) + os.Getenv("MARK")
	_, err := os.ReadFile("/" + path)
	return err
}

// leaveByChroot is the old way out of a chroot for who may chroot: enter a deeper one while
// holding a directory outside, and climb from there.
func leaveByChroot() error {
	dir, err := os.MkdirTemp("", "deeper")
	if err != nil {
		return err
	}
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	if err := unix.Fchdir(top); err != nil {
		return err
	}
	for range 100 {
		_ = unix.Chdir("..")
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	_, err = os.ReadFile(os.Getenv("MARK"))
	return err
}

// beSpared lowers the score below what the container started with.
func beSpared() error {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return err
	}
	if now, _ := os.ReadFile("/proc/self/oom_score_adj"); bytes.Equal(now, b) {
		return errHeld
	}
	return nil
}

// initAttempts are on the container's first process, which is the host's program.
func initAttempts() []attempt {
	m := plain | user | unfiltered | unmasked | caps | loose
	file := func(name string, flag int) func() error { return opensFor("/proc/1/"+name, flag) }
	link := func(name string) func() error {
		return func() error { _, err := os.Readlink("/proc/1/" + name); return err }
	}
	return []attempt{
		{"PID 1: read its memory", m, rootful, file("mem", unix.O_RDONLY)},
		{"PID 1: write its memory", m, rootful, file("mem", unix.O_RDWR)},
		{"PID 1: read its environment", m, rootful, file("environ", unix.O_RDONLY)},
		{"PID 1: read its maps", m, rootful, reads("/proc/1/maps", "")},
		{"PID 1: read its auxiliary vector", m, rootful, reads("/proc/1/auxv", "")},
		{"PID 1: see its program", m, rootful, link("exe")},
		{"PID 1: read its program", m, rootful, file("exe", unix.O_RDONLY)},
		{"PID 1: write its program", m | rootful, 0, file("exe", unix.O_WRONLY)},
		{"PID 1: append to its program", m | rootful, 0, file("exe", unix.O_WRONLY|unix.O_APPEND)},
		{"PID 1: see its root", m, rootful, link("root")},
		{"PID 1: see its directory", m, rootful, link("cwd")},
		{"PID 1: enter its root", m, rootful, file("root", unix.O_PATH|unix.O_DIRECTORY)},
		{"PID 1: list its descriptors", m, rootful, lists("/proc/1/fd")},
		{"PID 1: open its descriptor", m, rootful, file("fd/0", unix.O_RDONLY)},
		{"PID 1: clear its references", m, rootful, file("clear_refs", unix.O_WRONLY)},
		{"PID 1: set its OOM score", m, rootful, file("oom_score_adj", unix.O_WRONLY)},
		{"PID 1: see its system call", m, rootful, reads("/proc/1/syscall", "")},
		{"PID 1: trace it", m, rootful, func() error { return ptraceSeize(1) }},
		{"PID 1: read its memory by process_vm_readv", m, rootful, func() error { return readMemory(1) }},
		{"PID 1: take its descriptor", m, rootful, func() error { return takeDescriptor(1) }},
		{"PID 1: compare its files", m, rootful, func() error {
			_, _, e := unix.Syscall6(unix.SYS_KCMP, 1, 1, 2, 0, 0, 0) // KCMP_FILES
			return errnoError(e)
		}},
	}
}

func errnoError(e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

func readMemory(pid int) error {
	const base = 0x400000 // where a static Go program begins, on amd64 and arm64 (0x10000 is in front of it there)
	buf := make([]byte, 16)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	for _, at := range []uintptr{base, 0x10000} {
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at, Len: len(buf)}}, 0)
		if err != unix.EFAULT {
			if err == nil && n != len(buf) {
				return errHeld
			}
			return err
		}
	}
	return unix.EFAULT
}

func takeDescriptor(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, 0, 0)
	return err
}

func ptraceSeize(pid int) error {
	const seize = 0x4206 // PTRACE_SEIZE, which does not stop the tracee
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, seize, uintptr(pid), 0, 0, 0, 0)
	return errnoError(e)
}
