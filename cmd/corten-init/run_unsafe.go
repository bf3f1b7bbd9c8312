package main

//lint:file-ignore U1000 all of it is reached from entry_*.s, which staticcheck does not read

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where descriptors lie, counted from the first that is not the command's.
const (
	report = 0
	guard  = 1 // and the one after it
	gate   = 3
)

// The memory of the program: there is no heap.
var (
	tls     [128]byte // what the thread pointer points into
	signals [8]byte   // a sigset_t with every signal in it
	number  uint32    // what a system call reads or writes
	file    unix.Stat_t
	pause   unix.Timespec
	sent    struct { // siginfo_t of a signal that a process sent, sigaction(2)
		_    [2]int32
		code int32
		_    int32
		pid  int32
		_    [27]int32
	}
)

// visit is the signal with which a checkpoint is announced: one that C libraries keep for themselves, so that
// nobody sends it to a command.
const visit = 33

func entry() // entry_*.s

// run is the program. sp points at argc, argv and the environment as the kernel laid them
// out (execve(2), x86-64 and arm64 ABI alike).
//
//go:nosplit
func run(sp uintptr) {
	closed := true
	traceable(0)
	first := 3 + passed(word(sp+8))
	command := meet(first + gate)
	for i := range signals {
		signals[i] = 0xff
	}
	for {
		// Blocked signals wait here, also those that PID 1 would never get.
		sig, errno := sys(unix.SYS_RT_SIGTIMEDWAIT, addr(&signals), uintptr(unsafe.Pointer(&sent)), patience(closed), 8)
		if errno != 0 { // EINTR after a stop, EAGAIN when nobody came
			closed = true
			traceable(0)
			continue
		}
		if sig == visit {
			if sent.code == 0 /* SI_USER */ && sent.pid == 0 { // from outside: nobody in here can say so, rt_sigqueueinfo(2)
				closed = false
				traceable(1)
			}
			continue
		}
		if sig == uintptr(unix.SIGCHLD) {
			reap(command, first)
			continue
		}
		sys(unix.SYS_KILL, command, sig, 0, 0)
	}
}

// traceable makes this process dumpable or undumpable.
//
//go:nosplit
func traceable(yes uintptr) { sys(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, yes, 0, 0) }

// patience is how long a signal is waited for: for ever, but when a checkpoint was announced.
//
//go:nosplit
func patience(closed bool) uintptr {
	if closed {
		return 0
	}
	pause = unix.Timespec{Sec: 3}
	return uintptr(unsafe.Pointer(&pause))
}

// passed is the number after the colon of a name; 0 if there is none.
//
//go:nosplit
func passed(name uintptr) uintptr {
	n := uintptr(0)
	for ; at(name) != 0; name++ {
		if at(name) == ':' {
			n = 0
		}
		if c := at(name); c >= '0' && c <= '9' {
			n = 10*n + uintptr(c-'0')
		}
	}
	return n
}

// meet opens the gate, if there is one, and returns the command's process.
//
//go:nosplit
func meet(fd uintptr) uintptr {
	number = 2
	sys(unix.SYS_READ, fd, addr32(&number), 4, 0)
	command := uintptr(number)
	number = 0
	sys(unix.SYS_WRITE, fd, addr32(&number), 1, 0)
	sys(unix.SYS_CLOSE, fd, 0, 0, 0)
	return command
}

// reap collects every dead process, and ends with the command's status if it is among them.
//
//go:nosplit
func reap(command, first uintptr) {
	for {
		pid, errno := sys(unix.SYS_WAIT4, ^uintptr(0), addr32(&number), unix.WNOHANG, 0)
		if errno != 0 || pid == 0 {
			return
		}
		if pid != command {
			continue
		}
		code := number >> 8 & 0xff
		if sig := number & 0x7f; sig != 0 {
			code = 128 + sig
		}
		number = code
		sys(unix.SYS_WRITE, first+report, addr32(&number), 1, 0)
		linger(first + guard)
		for {
			sys(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0, 0)
		}
	}
}

// linger waits until the guards that are pipes are empty.
//
//go:nosplit
func linger(fd uintptr) {
	for range 2 {
		if _, errno := sys(unix.SYS_FSTAT, fd, uintptr(unsafe.Pointer(&file)), 0, 0); errno == 0 && file.Mode&unix.S_IFMT == unix.S_IFIFO {
			// Others may write for ever, and be it that nobody reads. In a pid namespace of
			// its own only: elsewhere -1 is everybody.
			if pid, _ := sys(unix.SYS_GETPID, 0, 0, 0, 0); pid == 1 {
				sys(unix.SYS_KILL, ^uintptr(0), uintptr(unix.SIGKILL), 0, 0)
			}
			drain(fd)
		}
		fd++
	}
}

// drain waits until a pipe is empty, and looks less often the longer that takes.
//
//go:nosplit
func drain(fd uintptr) {
	for pause.Nsec = 1e6; ; pause.Nsec = min(2*pause.Nsec, 100e6) {
		number = 0
		if _, errno := sys(unix.SYS_IOCTL, fd, unix.TIOCINQ /* FIONREAD */, addr32(&number), 0); errno != 0 || number == 0 {
			return
		}
		sys(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0, 0)
	}
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
