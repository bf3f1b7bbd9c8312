package main

//lint:file-ignore U1000 all of it is reached from entry_*.s, which staticcheck does not read

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// report is the pipe to whoever started the container. First comes one byte: 0 when the
// command runs, or the errno that kept it from running. At the end comes the command's
// status, a moment before the kernel has taken the container apart; a pipe that closes
// without one means that PID 1 was killed.
const report = 3

// The memory of the program: there is no heap.
var (
	tls     [128]byte // what the thread pointer points into
	path    [unix.PathMax]byte
	signals [8]byte // a sigset_t with every signal in it
	none    [8]byte
	status  uint32
)

func entry() // entry_*.s

// run is the program. sp points at argc, argv and the environment as the kernel laid them
// out (execve(2), x86-64 and arm64 ABI alike).
//
//go:nosplit
func run(sp uintptr) {
	argc := word(sp)
	argv := sp + 8
	envp := argv + (argc+1)*8
	sys(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0)
	sys(unix.SYS_FCNTL, report, unix.F_SETFD, unix.FD_CLOEXEC, 0)
	for i := range signals {
		signals[i] = 0xff
	}
	// Blocked signals wait for rt_sigtimedwait, also those that PID 1 would never get.
	mask(&signals)
	if argc < 2 {
		fail(syscall.EINVAL)
	}
	child, errno := fork()
	if errno != 0 {
		fail(errno)
	}
	if child == 0 {
		execute(argv+8, envp)
	}
	say(0)
	for {
		sig, errno := sys(unix.SYS_RT_SIGTIMEDWAIT, addr(&signals), 0, 0, 8)
		if errno != 0 {
			continue // EINTR after a stop
		}
		if sig == uintptr(unix.SIGCHLD) {
			reap(child)
			continue
		}
		sys(unix.SYS_KILL, child, sig, 0, 0)
	}
}

// fork makes a process of its own; with so little memory a copy is as quick as sharing. We
// go on when it has executed its program or died (CLONE_VFORK).
//
//go:nosplit
func fork() (pid uintptr, errno syscall.Errno) {
	return sys(unix.SYS_CLONE, unix.CLONE_VFORK|uintptr(unix.SIGCHLD), 0, 0, 0)
}

// say writes a byte to the report.
//
//go:nosplit
func say(b uint32) {
	status = b
	sys(unix.SYS_WRITE, report, addr32(&status), 1, 0)
}

// reap collects every dead process, and ends with the command's status if it is among them.
//
//go:nosplit
func reap(child uintptr) {
	for {
		pid, errno := sys(unix.SYS_WAIT4, ^uintptr(0), addr32(&status), unix.WNOHANG, 0)
		if errno != 0 || pid == 0 {
			return
		}
		if pid != child {
			continue
		}
		code := status >> 8 & 0xff
		if sig := status & 0x7f; sig != 0 {
			code = 128 + sig
		}
		say(code)
		exit(uintptr(code))
	}
}

// execute becomes the command, in a process group of its own, which has the terminal if
// the container has one: job control then works, and a signal to the group does not come
// back to PID 1.
//
//go:nosplit
func execute(argv, envp uintptr) {
	sys(unix.SYS_SETPGID, 0, 0, 0, 0)
	pid, _ := sys(unix.SYS_GETPID, 0, 0, 0, 0)
	status = uint32(pid)
	// Succeeds only for our own controlling terminal; stdin may be one of the host.
	sys(unix.SYS_IOCTL, 0, unix.TIOCSPGRP, addr32(&status), 0)
	mask(&none)
	name := word(argv)
	if hasSlash(name) {
		_, errno := sys(unix.SYS_EXECVE, name, argv, envp, 0)
		fail(errno)
	}
	fail(search(name, argv, envp))
}

// search tries the command in each directory of PATH and returns why none would do: a file
// that is there and may not be executed says more than one that is not.
//
//go:nosplit
func search(name, argv, envp uintptr) syscall.Errno {
	last := syscall.ENOENT
	dir := pathVariable(envp)
	for dir != 0 {
		n := uintptr(0)
		for ; at(dir) != 0 && at(dir) != ':'; dir++ {
			n = put(n, at(dir))
		}
		if n == 0 {
			n = put(n, '.')
		}
		n = put(n, '/')
		for s := name; at(s) != 0; s++ {
			n = put(n, at(s))
		}
		if n = put(n, 0); n < unix.PathMax {
			_, errno := sys(unix.SYS_EXECVE, uintptr(unsafe.Pointer(&path[0])), argv, envp, 0)
			switch errno {
			case syscall.ENOENT, syscall.ENOTDIR:
			case syscall.EACCES:
				last = errno
			default:
				return errno
			}
		}
		if at(dir) == 0 {
			break
		}
		dir++
	}
	return last
}

// put appends a byte to path, whose last place marks that the name did not fit.
//
//go:nosplit
func put(n uintptr, b byte) uintptr {
	if n >= unix.PathMax-1 {
		return unix.PathMax
	}
	path[n&(unix.PathMax-1)] = b
	return n + 1
}

// pathVariable finds the value of PATH; 0 if there is none.
//
//go:nosplit
func pathVariable(envp uintptr) uintptr {
	for ; word(envp) != 0; envp += 8 {
		e := word(envp)
		if at(e) == 'P' && at(e+1) == 'A' && at(e+2) == 'T' && at(e+3) == 'H' && at(e+4) == '=' {
			return e + 5
		}
	}
	return 0
}

//go:nosplit
func hasSlash(s uintptr) bool {
	for ; at(s) != 0; s++ {
		if at(s) == '/' {
			return true
		}
	}
	return false
}

// fail reports why the command does not run and ends as a shell would.
//
//go:nosplit
func fail(errno syscall.Errno) {
	say(uint32(errno))
	if errno == syscall.ENOENT || errno == syscall.ENOTDIR {
		exit(127)
	}
	exit(126)
}

//go:nosplit
func exit(code uintptr) {
	for {
		sys(unix.SYS_EXIT_GROUP, code, 0, 0, 0)
	}
}

//go:nosplit
func mask(set *[8]byte) {
	sys(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, addr(set), 0, 8)
}

// sys is a system call of four arguments.
//
//go:nosplit
func sys(nr, a, b, c, d uintptr) (uintptr, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, 0, 0)
	return r, errno
}

//go:nosplit
func word(p uintptr) uintptr { return **(**uintptr)(unsafe.Pointer(&p)) }

//go:nosplit
func at(p uintptr) byte { return **(**byte)(unsafe.Pointer(&p)) }

//go:nosplit
func addr(p *[8]byte) uintptr { return uintptr(unsafe.Pointer(p)) }

//go:nosplit
func addr32(p *uint32) uintptr { return uintptr(unsafe.Pointer(p)) }
