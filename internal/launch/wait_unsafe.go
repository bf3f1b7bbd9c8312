package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitInfo is the part of siginfo_t that waitid(2) fills in, on 64 bit machines.
type waitInfo struct {
	signo  int32
	errno  int32
	code   int32
	_      int32
	pid    int32
	uid    uint32
	status int32
	_      [100]byte
}

const cldExited = 1 // CLD_EXITED, <asm-generic/siginfo.h>

// waitID reaps the child that pidfd refers to (P_PIDFD: Linux 5.4).
func waitID(pidfd int, info *waitInfo) error {
	_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, uintptr(pidfd), uintptr(unsafe.Pointer(info)), unix.WEXITED, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
