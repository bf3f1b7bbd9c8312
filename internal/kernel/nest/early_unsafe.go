package nest

//lint:file-ignore U1000 all of it is reached from entry_*.s, which staticcheck does not read

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What runs here runs before the Go runtime, when the process has one thread: only then the
// kernel lets it change its user namespace. Nothing may be done that needs the runtime: no
// allocation, no growing stack, no panic that anybody would print. It decides nothing that takes
// thought. What it does not understand it leaves as it is, and prepare.go, with the runtime, makes
// it simple and has it tried again.

// The memory of this part.
var (
	stack uintptr   // where the kernel left the arguments
	tls   [128]byte // what the thread pointer points into

	path    [64]byte
	text    [4096]byte // the file map; its words are used where they lie
	uidArgs [64]uintptr
	gidArgs [64]uintptr
	digits  [16]byte // our pid
	target  [32]byte // /proc/PID/ns/user
	entries [4096]byte
	file    unix.Stat_t
	own     unix.Stat_t // our user namespace
	number  [2]uint32   // what a system call reads or writes
	pause   unix.Timespec
)

// What came of it, for the Go code.
var (
	outcome uint32  // stage
	reason  uintptr // errno of a stage that failed
	helper  uintptr // pid of the process that has the ids mapped
	caller  uintptr // the user's number outside
)

// The stages.
const (
	notTried = iota // built without the entry point, or not an ordinary user
	spared          // nothing is asked for that needs it
	notReady        // no folder, or no map file, or one that is out of date
	joined          // the namespace of another process
	made            // a namespace; its ids are being mapped by helper, or are mapped
	refused         // by the kernel, for reason
	held            // by another process, which does not let us in
)

func entry() // entry_*.s

// early enters the user namespace of this user's containers, or makes one. sp points at argc and
// argv (execve(2), x86-64 and arm64 ABI alike).
//
//go:nosplit
func early(sp uintptr) {
	outcome = spared
	if doctor(sp + 16) {
		return
	}
	outcome = notReady
	uid, _ := sys(unix.SYS_GETEUID, 0, 0, 0, 0)
	caller = uid
	dir, ok := folder(uid)
	if !ok {
		return
	}
	if ready(dir) && lookAtSelf() {
		// Only one at a time makes a namespace; the others find it then.
		sys(unix.SYS_FLOCK, dir, unix.LOCK_EX, 0, 0)
		outcome = refused
		if !join(dir, uid) && outcome != held {
			create(dir, uid)
		}
	}
	sys(unix.SYS_CLOSE, dir, 0, 0, 0) // the helper keeps the lock as long as it works
}

// doctor reports whether the verb is that, which looks at the host as the user has it, or spec of
// corten-oci, which writes down his number, or none. args points at the arguments: before a verb there
// are flags, each with a value of its own unless it has that in it or is one of two.
//
//go:nosplit
func doctor(args uintptr) bool {
	for arg := word(args); arg != 0; arg = word(args) {
		if at(arg) != '-' {
			return is(arg, "doctor") || is(arg, "spec")
		}
		args += 8
		if !is(arg, "--debug") && !is(arg, "--systemd-cgroup") && !has(arg, '=') && word(args) != 0 {
			args += 8
		}
	}
	return true
}

//go:nosplit
func is(p uintptr, text string) bool {
	from := uintptr(unsafe.Pointer(unsafe.StringData(text)))
	for i := uintptr(0); i < uintptr(len(text)); i++ {
		if at(p+i) != at(from+i) {
			return false
		}
	}
	return at(p+uintptr(len(text))) == 0
}

//go:nosplit
func has(p uintptr, c byte) bool {
	for ; at(p) != 0; p++ {
		if at(p) == c {
			return true
		}
	}
	return false
}

// folder opens the folder of the user's namespaces: see Folders.
//
//go:nosplit
func folder(uid uintptr) (uintptr, bool) {
	for i := range 2 {
		p := addr(&path[0])
		if i == 0 {
			p = put(p, "/run/user/")
			p = putNumber(p, uid)
			p = put(p, "/corten-nest")
		} else {
			p = put(p, "/tmp/corten-nest-")
			p = putNumber(p, uid)
		}
		set(p, 0)
		fd, errno := sys(unix.SYS_OPENAT, atCWD, addr(&path[0]), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errno != 0 {
			continue
		}
		if _, errno = sys(unix.SYS_FSTAT, fd, uintptr(unsafe.Pointer(&file)), 0, 0); errno == 0 && uintptr(file.Uid) == uid && file.Mode&0o077 == 0 {
			return fd, true
		}
		sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	}
	return 0, false
}

const atCWD = ^uintptr(99) // AT_FDCWD, -100

// ready reads the map file, unless it is older than what it was made from.
//
//go:nosplit
func ready(dir uintptr) bool {
	set(put(addr(&path[0]), "map"), 0)
	fd, errno := sys(unix.SYS_OPENAT, dir, addr(&path[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errno != 0 {
		return false
	}
	n, errno := sys(unix.SYS_READ, fd, addr(&text[0]), uintptr(len(text)), 0)
	_, errno2 := sys(unix.SYS_FSTAT, fd, uintptr(unsafe.Pointer(&file)), 0, 0)
	sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	if errno != 0 || errno2 != 0 || n == 0 || n >= uintptr(len(text)) {
		return false
	}
	sec, nsec := file.Mtim.Sec, file.Mtim.Nsec
	return !newer("/etc/subuid", sec, nsec) && !newer("/etc/subgid", sec, nsec) && split(n)
}

//go:nosplit
func newer(name string, sec, nsec int64) bool {
	set(put(addr(&path[0]), name), 0)
	if _, errno := sys(unix.SYS_NEWFSTATAT, atCWD, addr(&path[0]), uintptr(unsafe.Pointer(&file)), 0); errno != 0 {
		return false
	}
	return file.Mtim.Sec > sec || file.Mtim.Sec == sec && file.Mtim.Nsec >= nsec
}

// split makes the arguments of the two programs of the two lines of the file, each with our pid after
// the program's name.
//
//go:nosplit
func split(n uintptr) bool {
	pid, _ := sys(unix.SYS_GETPID, 0, 0, 0, 0)
	set(putNumber(addr(&digits[0]), pid), 0)
	p, end := addr(&text[0]), addr(&text[0])+n
	p, ok := words(p, end, uintptr(unsafe.Pointer(&uidArgs)))
	if !ok {
		return false
	}
	_, ok = words(p, end, uintptr(unsafe.Pointer(&gidArgs)))
	return ok
}

//go:nosplit
func words(p, end, args uintptr) (uintptr, bool) {
	const room = uintptr(len(uidArgs)) - 1
	count, begun := uintptr(0), false
	for ; p < end; p++ {
		c := at(p)
		if c != ' ' && c != '\n' {
			if !begun {
				if count+1 >= room {
					return p, false
				}
				setWord(args+8*count, p)
				count++
				if count == 1 {
					setWord(args+8, addr(&digits[0]))
					count++
				}
			}
			begun = true
			continue
		}
		set(p, 0)
		begun = false
		if c == '\n' {
			return p + 1, true
		}
	}
	return p, false
}

// lookAtSelf finds out what our own user namespace is.
//
//go:nosplit
func lookAtSelf() bool {
	set(put(addr(&path[0]), "/proc/self/ns/user"), 0)
	_, errno := sys(unix.SYS_NEWFSTATAT, atCWD, addr(&path[0]), uintptr(unsafe.Pointer(&own)), 0)
	return errno == 0
}

// join enters the namespace of a process that is in the folder: each has a link there, named by
// its pid, to its user namespace.
//
//go:nosplit
func join(dir, uid uintptr) bool {
	pause.Nsec = 1e6
	for range 200 {
		busy := false
		sys(unix.SYS_LSEEK, dir, 0, 0, 0)
		for {
			n, errno := sys(unix.SYS_GETDENTS64, dir, addr(&entries[0]), uintptr(len(entries)), 0)
			if errno != 0 || n == 0 {
				break
			}
			for p := addr(&entries[0]); p < addr(&entries[0])+n; p += uintptr(at(p+16)) | uintptr(at(p+17))<<8 {
				name := p + 19 // struct linux_dirent64, getdents(2)
				if c := at(name); c < '0' || c > '9' {
					continue
				}
				fd, errno := sys(unix.SYS_OPENAT, dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if errno == unix.EACCES {
					fd, errno = child(name)
				}
				switch {
				case errno == unix.EACCES: // it starts a container just now
					busy = true
				case errno != 0: // it is gone
					sys(unix.SYS_UNLINKAT, dir, name, 0, 0)
				case enter(fd, uid):
					outcome = joined
					return true
				}
			}
		}
		if !busy {
			return false
		}
		sys(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0, 0)
	}
	outcome = held
	return false
}

// child opens the user namespace of a child of a process: corten-init may be closed to all.
//
//go:nosplit
func child(name uintptr) (uintptr, syscall.Errno) {
	p := copyText(put(addr(&path[0]), "/proc/"), name)
	set(put(copyText(put(p, "/task/"), name), "/children"), 0)
	fd, errno := sys(unix.SYS_OPENAT, atCWD, addr(&path[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errno != 0 {
		return 0, unix.EACCES
	}
	p = put(addr(&target[0]), "/proc/")
	n, _ := sys(unix.SYS_READ, fd, p, 10, 0)
	sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	for end := p + min(n, 10); p < end && at(p) >= '0' && at(p) <= '9'; p++ {
	}
	set(put(p, "/ns/user"), 0)
	fd, errno = sys(unix.SYS_OPENAT, atCWD, addr(&target[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errno != 0 {
		errno = unix.EACCES
	}
	return fd, errno
}

// enter enters a user namespace, or the one above it: that of a container lies in it. It has to be one
// that this user made, right below ours.
//
//go:nosplit
func enter(fd, uid uintptr) bool {
	for range 2 {
		above, errno := sys(unix.SYS_IOCTL, fd, unix.NS_GET_PARENT, 0, 0)
		if errno != 0 {
			break
		}
		_, errno = sys(unix.SYS_FSTAT, above, uintptr(unsafe.Pointer(&file)), 0, 0)
		if errno == 0 && file.Ino == own.Ino && file.Dev == own.Dev {
			sys(unix.SYS_CLOSE, above, 0, 0, 0)
			_, errno = sys(unix.SYS_IOCTL, fd, unix.NS_GET_OWNER_UID, uintptr(unsafe.Pointer(&number)), 0)
			if errno != 0 || uintptr(number[0]) != uid {
				break
			}
			_, errno = sys(unix.SYS_SETNS, fd, unix.CLONE_NEWUSER, 0, 0)
			if errno == 0 {
				_, errno = sys(unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0, 0)
			}
			reason = uintptr(errno)
			sys(unix.SYS_CLOSE, fd, 0, 0, 0)
			if gid, _ := sys(unix.SYS_GETEGID, 0, 0, 0, 0); errno == 0 && gid != 0 { // newgrp(1) gave it another than the namespace's
				sys(unix.SYS_SETRESGID, 0, 0, 0, 0)
				sys(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0)
			}
			return errno == 0
		}
		sys(unix.SYS_CLOSE, fd, 0, 0, 0)
		fd = above
	}
	sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	return false
}

// create makes a namespace and a process that has the ids mapped, which takes longer than all that
// the runtime has to do first.
//
//go:nosplit
func create(dir, uid uintptr) {
	_, errno := sys(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&number)), unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		reason = uintptr(errno)
		return
	}
	rd, wr := uintptr(number[0]), uintptr(number[1])
	gid, _ := sys(unix.SYS_GETEGID, 0, 0, 0, 0) // there, it has no number before it is mapped
	pid := uintptr(0)
	if uidArgs[0] != 0 {
		if pid, errno = fork(); pid == 0 && errno == 0 {
			sys(unix.SYS_CLOSE, wr, 0, 0, 0)
			assist(rd)
		}
	}
	if errno == 0 {
		_, errno = sys(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_NEWNS, 0, 0, 0)
	}
	if errno == 0 && pid == 0 {
		errno = mapOne(uid, gid)
	}
	if errno != 0 {
		reason = uintptr(errno)
	} else {
		sys(unix.SYS_WRITE, wr, addr(&text[0]), 1, 0)
		p := put(addr(&target[0]), "/proc/")
		p = copyText(p, addr(&digits[0]))
		set(put(p, "/ns/user"), 0)
		sys(unix.SYS_SYMLINKAT, addr(&target[0]), dir, addr(&digits[0]), 0)
		outcome, helper = made, pid
	}
	sys(unix.SYS_CLOSE, rd, 0, 0, 0)
	sys(unix.SYS_CLOSE, wr, 0, 0, 0)
	if errno != 0 && pid != 0 { // it sees the end of the pipe
		sys(unix.SYS_WAIT4, pid, 0, 0, 0)
	}
}

//go:nosplit
func fork() (uintptr, syscall.Errno) { return sys(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0) }

// assist is the helper: when its parent is in its namespace it starts both programs, and ends well if
// both do.
//
//go:nosplit
func assist(rd uintptr) {
	if n, _ := sys(unix.SYS_READ, rd, addr(&entries[0]), 1, 0); n != 1 {
		exit(1)
	}
	for i := range 2 {
		pid, errno := fork()
		if errno != 0 {
			exit(1)
		}
		if pid == 0 {
			args := uintptr(unsafe.Pointer(&uidArgs))
			if i == 1 {
				args = uintptr(unsafe.Pointer(&gidArgs))
			}
			none := args + 8*uintptr(len(uidArgs)-1) // an empty environment
			sys(unix.SYS_EXECVE, word(args), args, none, 0)
			exit(127)
		}
	}
	bad := uintptr(0)
	for range 2 {
		number[0] = 1
		sys(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&number)), 0, 0)
		if number[0] != 0 {
			bad = 1
		}
	}
	exit(bad)
}

//go:nosplit
func exit(status uintptr) {
	for {
		sys(unix.SYS_EXIT_GROUP, status, 0, 0, 0)
	}
}

// mapOne maps the user's own ids, and no others: that needs nobody's help (user_namespaces(7)).
//
//go:nosplit
func mapOne(uid, gid uintptr) syscall.Errno {
	errno := write("/proc/self/setgroups", put(addr(&text[0]), "deny"))
	if errno == 0 {
		errno = write("/proc/self/uid_map", put(putNumber(put(addr(&text[0]), "0 "), uid), " 1"))
	}
	if errno == 0 {
		errno = write("/proc/self/gid_map", put(putNumber(put(addr(&text[0]), "0 "), gid), " 1"))
	}
	return errno
}

// write writes what text holds up to end.
//
//go:nosplit
func write(name string, end uintptr) syscall.Errno {
	set(put(addr(&path[0]), name), 0)
	fd, errno := sys(unix.SYS_OPENAT, atCWD, addr(&path[0]), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errno != 0 {
		return errno
	}
	_, errno = sys(unix.SYS_WRITE, fd, addr(&text[0]), end-addr(&text[0]), 0)
	sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	return errno
}

// put writes a text at p and returns its end; putNumber does so with a number.
//
//go:nosplit
func put(p uintptr, s string) uintptr {
	from := uintptr(unsafe.Pointer(unsafe.StringData(s)))
	for i := uintptr(0); i < uintptr(len(s)); i++ {
		set(p+i, at(from+i))
	}
	return p + uintptr(len(s))
}

//go:nosplit
func putNumber(p, n uintptr) uintptr {
	unit := uintptr(1)
	for n/unit >= 10 {
		unit *= 10
	}
	for ; unit > 0; unit /= 10 {
		set(p, byte('0'+n/unit%10))
		p++
	}
	return p
}

//go:nosplit
func copyText(p, from uintptr) uintptr {
	for ; at(from) != 0; from++ {
		set(p, at(from))
		p++
	}
	return p
}

//go:nosplit
func sys(nr, a, b, c, d uintptr) (uintptr, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, 0, 0)
	return r, errno
}

//go:nosplit
func at(p uintptr) byte { return **(**byte)(unsafe.Pointer(&p)) }

//go:nosplit
func set(p uintptr, c byte) { **(**byte)(unsafe.Pointer(&p)) = c }

//go:nosplit
func word(p uintptr) uintptr { return **(**uintptr)(unsafe.Pointer(&p)) }

//go:nosplit
func setWord(p, w uintptr) { **(**uintptr)(unsafe.Pointer(&p)) = w }

//go:nosplit
func addr(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }
