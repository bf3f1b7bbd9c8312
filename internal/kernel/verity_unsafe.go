package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func enableVerity(fd int) error {
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: unix.FS_VERITY_HASH_ALG_SHA256, Block_size: 4096}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if e != 0 {
		return e
	}
	return nil
}

func measureVerity(fd int, digest *[32]byte) (algorithm, size uint16, err error) {
	// struct fsverity_digest of <linux/fsverity.h>: algorithm, size of what follows, the digest.
	var arg struct {
		algorithm, size uint16
		digest          [32]byte
	}
	arg.size = uint16(len(arg.digest))
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if e != 0 {
		return 0, 0, e
	}
	*digest = arg.digest
	return arg.algorithm, arg.size, nil
}
