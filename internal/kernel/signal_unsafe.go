package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func handlers() (signal, restorer uintptr) // signal_*.s

// setAction installs a handler. It runs on the thread's signal stack, with all signals
// blocked, and is returned from by its own restorer (SA_RESTORER; arm64 could do without).
func setAction(s unix.Signal, handler, back uintptr) error {
	const (
		onStack  = 0x08000000 // SA_ONSTACK
		restart  = 0x10000000 // SA_RESTART
		restorer = 0x04000000 // SA_RESTORER
	)
	// struct sigaction of the kernel, not of libc.
	var act struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	act.handler, act.restorer = handler, back
	act.flags, act.mask = onStack|restart|restorer, ^uint64(0)
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
