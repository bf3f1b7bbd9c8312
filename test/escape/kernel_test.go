package escape_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reaches is a try that counts as through when the kernel itself answers, which it does
// with this error: the arguments are no good.
func reaches(nr uintptr, answer unix.Errno, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e == 0 || e == answer {
			return nil
		}
		return e
	}
}

func ioctlPointer(fd int, request uintptr, p *byte) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(p)))
	return errnoError(e)
}

func kernelAttempts() []attempt {
	minus := ^uintptr(0)
	list := []attempt{
		{"search the session keyring", usual | unmasked | caps | unfiltered | loose, bare, func() error { return searchKey(unix.KEY_SPEC_SESSION_KEYRING) }},
		{"search the user keyring", everywhere | shared, bare, func() error { return searchKey(unix.KEY_SPEC_USER_KEYRING) }},
		{"add a key", usual | unmasked | caps, unfiltered, func() error {
			_, err := unix.AddKey("user", "corten-escape-own", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
			return err
		}},
		{"have the host make a key", usual | unmasked | caps, unfiltered, reaches(unix.SYS_REQUEST_KEY, unix.EFAULT)},
		{"read the kernel's log", usual | unmasked, rootful, readLog},
		{"read the kernel's log with all capabilities", caps | loose | shared, 0, restricted("/proc/sys/kernel/dmesg_restrict", readLog)},
		{"load a module", everywhere | shared, rootful, reaches(unix.SYS_FINIT_MODULE, unix.EBADF, minus)},
		{"load a module from memory", everywhere | shared, rootful, reaches(unix.SYS_INIT_MODULE, unix.ENOEXEC)},
		{"remove a module", everywhere | shared, rootful, reaches(unix.SYS_DELETE_MODULE, unix.EFAULT)},
		{"load another kernel", everywhere | shared, rootful, reaches(unix.SYS_KEXEC_LOAD, unix.EINVAL, 0, 0, 0, 0xdead)},
		{"load another kernel from a file", everywhere | shared, rootful, reaches(unix.SYS_KEXEC_FILE_LOAD, unix.EINVAL, minus, minus, 0, 0, 0xdead)},
		{"reach reboot", usual | unfiltered | unmasked, caps, reaches(unix.SYS_REBOOT, unix.EINVAL)},
		{"swap to a file", everywhere | shared, rootful, reaches(unix.SYS_SWAPON, unix.EFAULT)},
		{"stop swapping", everywhere | shared, rootful, reaches(unix.SYS_SWAPOFF, unix.EFAULT)},
		{"account processes", everywhere | shared, rootful, reaches(unix.SYS_ACCT, unix.EFAULT, 1)},
		{"set the clock", everywhere | shared, 0, func() error {
			now := unix.NsecToTimespec(time.Now().UnixNano())
			return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
		}},
		{"steer the clock", everywhere | shared, rootful, steerClock},
		{"set the host name", usual | unfiltered | unmasked, caps, func() error { return unix.Sethostname([]byte("escaped")) }},
		{"set the domain name", usual | unfiltered | unmasked, caps, func() error { return unix.Setdomainname([]byte("escaped")) }},
		{"load BPF", everywhere | shared, rootful, restricted("/proc/sys/kernel/unprivileged_bpf_disabled", reaches(unix.SYS_BPF, unix.E2BIG, 5 /* BPF_PROG_LOAD */))},
		{"count events of the processor", everywhere | shared, rootful, restricted("/proc/sys/kernel/perf_event_paranoid", countEvents)},
		{"hold the kernel at page faults", usual | unmasked | caps, unfiltered, reaches(unix.SYS_USERFAULTFD, 0, 1 /* UFFD_USER_MODE_ONLY */)},
		{"use io_uring", usual | unmasked | caps, unfiltered, reaches(unix.SYS_IO_URING_SETUP, unix.EFAULT, 1)},
		{"use io_uring's enter", usual | unmasked | caps, unfiltered, reaches(unix.SYS_IO_URING_ENTER, unix.EBADF, minus)},
		{"ask for quotas", usual | unmasked, unfiltered, reaches(unix.SYS_QUOTACTL, unix.ENODEV, 0xffffff00)},
		{"watch a whole file system", usual | unmasked, 0, reaches(unix.SYS_FANOTIFY_INIT, unix.EINVAL, 4 /* FAN_CLASS_CONTENT */)},
		{"switch off the randomness of addresses", usual | unmasked | caps, unfiltered, reaches(unix.SYS_PERSONALITY, 0, 0x0040000)},
		{"use the kernel's cryptography", usual | unmasked | caps, unfiltered, socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
		{"talk to the hypervisor", usual | unmasked | caps, unfiltered, socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
		{"use a rare network", usual | unmasked, 0, socket(unix.AF_CAN, unix.SOCK_RAW, 1)},
		{"move memory between nodes", usual | unmasked | caps, unfiltered, reaches(unix.SYS_MOVE_PAGES, unix.EFAULT, 0, 1)},
		{"call by int 0x80", usual | unmasked | caps, unfiltered, callInt80},
		{"call by x32", usual | unmasked | caps, unfiltered, callX32},
		{"enter a namespace by its file", usual | unmasked | unfiltered, 0, func() error {
			fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return unix.Setns(fd, 0)
		}},
		{"reach other processes' descriptors", usual | unmasked, unfiltered, reaches(unix.SYS_PIDFD_GETFD, unix.EBADF, minus)},
		{"tell the processor's list of nodes", usual | unmasked, unfiltered, reaches(unix.SYS_GET_MEMPOLICY, unix.EINVAL, 0, 0, 0, 0, 0xdead)},
	}
	if runtime.GOARCH == "amd64" {
		list = append(list, attempt{"change the local descriptor table", usual | unmasked | caps, unfiltered, reaches(sysModifyLDT, unix.EFAULT, 0)},
			attempt{"take I/O ports", everywhere | shared, rootful, reaches(sysIOPL, 0, 3)},
			attempt{"take an I/O port", everywhere | shared, rootful, reaches(sysIOPerm, 0, 0x80, 1, 1)})
	}
	return list
}

// Numbers on amd64 of calls that other machines do not have.
const (
	sysModifyLDT = 154
	sysIOPL      = 172
	sysIOPerm    = 173
)

// restricted skips a try that the host itself leaves open to all its users.
func restricted(sysctl string, try func() error) func() error {
	return func() error {
		b, err := os.ReadFile(sysctl)
		if err != nil || len(b) == 0 || b[0] == '0' || b[0] == '-' {
			return fmt.Errorf("%w: %s is %s: every user of the host may", errHeld, sysctl, b)
		}
		return try()
	}
}

func searchKey(ring int) error {
	_, err := unix.KeyctlSearch(ring, "user", victimKey, 0)
	return err
}

func readLog() error {
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 4096))
	return err
}

// steerClock sets the length of a tick to what it is.
func steerClock() error {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return err
	}
	t.Modes = unix.ADJ_TICK
	_, err := unix.Adjtimex(&t)
	return err
}

func countEvents() error {
	attr := &unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	_, err := unix.PerfEventOpen(attr, -1, 0, -1, 0)
	return err
}

func socket(domain, kind, proto int) func() error {
	return func() error { _, err := unix.Socket(domain, kind, proto); return err }
}

// callInt80 calls getpid by the 32-bit gate, from a program made by hand: it ends with
// status 0 if an answer came.
func callInt80() error {
	if runtime.GOARCH != "amd64" {
		return unix.ENOSYS
	}
	code := []byte{
		0xb8, 20, 0, 0, 0, // mov eax, 20 (getpid)
		0xcd, 0x80, // int 0x80
		0x31, 0xff, // xor edi, edi
		0x85, 0xc0, // test eax, eax
		0x7f, 0x05, // jg exit
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0xb8, 60, 0, 0, 0, // exit: mov eax, 60
		0x0f, 0x05, // syscall
	}
	fd, err := unix.MemfdCreate("int80", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, smallELF(code)); err != nil {
		return err
	}
	// A file that is open for writing is not executed.
	program, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	err = exec.Command(fmt.Sprintf("/proc/self/fd/%d", program)).Run()
	if e, ok := err.(*exec.ExitError); ok && e.ExitCode() != 1 {
		return fmt.Errorf("%w: %w", unix.ENOSYS, err) // a fault: the kernel has no such gate
	}
	return err
}

// smallELF is a 64-bit program of nothing but code.
func smallELF(code []byte) []byte {
	const base = 0x400000
	b := make([]byte, 120, 120+len(code))
	copy(b, "\x7fELF\x02\x01\x01")
	put := func(at int, n int, v uint64) {
		for i := range n {
			b[at+i] = byte(v >> (8 * i))
		}
	}
	put(16, 2, 2)        // ET_EXEC
	put(18, 2, 62)       // EM_X86_64
	put(20, 4, 1)        // version
	put(24, 8, base+120) // entry
	put(32, 8, 64)       // program headers
	put(52, 2, 64)       // size of this header
	put(54, 2, 56)       // of a program header
	put(56, 2, 1)        // how many
	put(64, 4, 1)        // PT_LOAD
	put(68, 4, 5)        // readable, executable
	put(80, 8, base)
	put(88, 8, base)
	put(96, 8, uint64(120+len(code)))
	put(104, 8, uint64(120+len(code)))
	put(112, 8, 0x1000)
	return append(b, code...)
}

func callX32() error {
	if runtime.GOARCH != "amd64" {
		return unix.ENOSYS
	}
	const getpid = 0x40000000 | 39
	_, _, e := unix.RawSyscall(getpid, 0, 0, 0)
	return errnoError(e)
}

// identityAttempts are on who the container's users are.
func identityAttempts() []attempt {
	// On the root file system, which is the host's to mount, and so to ask for capabilities.
	self := fmt.Sprintf("/own-%d", os.Getpid())
	file := func(then func(path string) error) func() error {
		return func() error {
			if err := os.WriteFile(self, nil, 0o600); err != nil {
				return err
			}
			defer os.Remove(self)
			return then(self)
		}
	}
	return []attempt{
		{"become a user of the host", everywhere | shared, rootful, func() error { return unix.Setresuid(1<<20, 1<<20, 1<<20) }},
		{"become the last user", everywhere | shared, rootful, func() error { return unix.Setresuid(65536, 65536, 65536) }},
		{"join a group of the host", everywhere | shared, rootful, func() error { return unix.Setgroups([]int{1 << 20}) }},
		{"give a file to a user of the host", everywhere | shared, rootful, file(func(p string) error { return os.Chown(p, 1<<20, 1<<20) })},
		{"set the own user map", everywhere | shared | rootful, 0, func() error { return os.WriteFile("/proc/self/uid_map", []byte("0 0 1"), 0) }},
		{"set a trusted attribute", everywhere | shared, rootful, file(func(p string) error { return unix.Setxattr(p, "trusted.x", []byte("x"), 0) })},
		{"set a signature of the integrity module", everywhere | shared, 0, file(func(p string) error { return unix.Setxattr(p, "security.ima", []byte("x"), 0) })},
		{"raise the hard limit of files", everywhere | shared, 0, func() error {
			var l unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
				return err
			}
			l.Max++
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
		}},
		{"run before all others", everywhere | shared, 0, func() error {
			return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: 1, Priority: 1}, 0) // SCHED_FIFO
		}},
		{"be more important than others", everywhere | shared, rootful, func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -10) }},
	}
}
