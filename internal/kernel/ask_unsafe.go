package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func landlockABI() (int, error) {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	n, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func seccompAllow(flags uint) (int, error) {
	allow := [...]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	prog := unix.SockFprog{Len: uint16(len(allow)), Filter: &allow[0]}
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// mountRequest is struct mnt_id_req of <linux/mount.h>, in its first size.
type mountRequest struct {
	size  uint32
	_     uint32
	id    uint64
	param uint64
}

func listMounts() (int, uint64, error) {
	const root = ^uint64(0) // LSMT_ROOT
	var ids [4]uint64
	req := mountRequest{id: root}
	req.size = uint32(unsafe.Sizeof(req))
	n, _, e := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&req)), uintptr(unsafe.Pointer(&ids)), uintptr(len(ids)), 0, 0, 0)
	if e != 0 {
		return 0, 0, e
	}
	return int(n), ids[0], nil
}

func statMount(id uint64) error {
	const basics = 0x1 // STATMOUNT_SB_BASIC
	var buf [512]byte  // struct statmount
	req := mountRequest{id: id, param: basics}
	req.size = uint32(unsafe.Sizeof(req))
	_, _, e := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&req)), uintptr(unsafe.Pointer(&buf)), unsafe.Sizeof(buf), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func lsmList() ([]uint64, error) {
	var ids [32]uint64
	size := uint32(unsafe.Sizeof(ids))
	n, _, e := unix.Syscall(unix.SYS_LSM_LIST_MODULES, uintptr(unsafe.Pointer(&ids)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return nil, e
	}
	return ids[:min(int(n), len(ids))], nil
}

func pidfdExit(pidfd int) (unix.WaitStatus, bool) {
	const (
		getInfo  = 0xc040ff0b // PIDFD_GET_INFO: _IOWR(0xff, 11, 64 bytes)
		infoExit = 1 << 3     // PIDFD_INFO_EXIT
	)
	// struct pidfd_info of <linux/pidfd.h>, in its first size.
	var info struct {
		mask   uint64
		cgroup uint64
		ids    [11]uint32
		exit   int32
	}
	info.mask = infoExit
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), getInfo, uintptr(unsafe.Pointer(&info)))
	return unix.WaitStatus(info.exit), e == 0 && info.mask&infoExit != 0
}

func socketOption(fd, level, name int, b []byte) (int, error) {
	size := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0, e
	}
	return int(size), nil
}
