package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// projectQuotas is PRJQUOTA, a type of quotas in <linux/quota.h>.
const projectQuotas = 2

func quotactl(fd int, cmd uintptr, id uint32, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), cmd<<8|projectQuotas, uintptr(id), uintptr(arg), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func quotaFlags(fd int) (uint16, error) {
	const (
		xGetQStatV = 'X'<<8 + 8 // Q_XGETQSTATV; the answer covers all types
		version    = 1          // FS_QSTATV_VERSION1
	)
	// struct fs_quota_statv, 160 bytes: the version, a byte, the flags as 16 bits.
	var stat struct {
		version uint8
		_       uint8
		flags   uint16
		_       [252]byte
	}
	stat.version = version
	err := quotactl(fd, xGetQStatV, 0, unsafe.Pointer(&stat))
	return stat.flags, err
}

// blockQuota is struct if_dqblk of <linux/quota.h>.
type blockQuota struct {
	hard, soft   uint64 // in 1 KiB
	space        uint64 // bytes
	ihard, isoft uint64
	inodes       uint64
	btime, itime uint64
	valid        uint32
	_            uint32
}

func getQuota(fd int, project uint32) (ProjectQuota, error) {
	const getQuota = 0x800007 // Q_GETQUOTA
	var q blockQuota
	err := quotactl(fd, getQuota, project, unsafe.Pointer(&q))
	return ProjectQuota{Limit: q.hard << 10, Used: q.space, Files: q.inodes}, err
}

func setQuota(fd int, project uint32, limit uint64) error {
	const (
		setQuota = 0x800008 // Q_SETQUOTA
		limits   = 1        // QIF_BLIMITS: of what is here those count
	)
	q := blockQuota{hard: limit >> 10, valid: limits}
	return quotactl(fd, setQuota, project, unsafe.Pointer(&q))
}

// fileXAttr is struct fsxattr of <linux/fs.h>.
type fileXAttr struct {
	flags, extent, extents uint32
	project                uint32
	cow                    uint32
	_                      [8]byte
}

func getXAttr(fd int) (a fileXAttr, err error) {
	const get = 0x801c581f // FS_IOC_FSGETXATTR: _IOR('X', 31, struct fsxattr)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), get, uintptr(unsafe.Pointer(&a)))
	if e != 0 {
		return a, e
	}
	return a, nil
}

func setXAttr(fd int, a *fileXAttr) error {
	const set = 0x401c5820 // FS_IOC_FSSETXATTR: _IOW('X', 32, struct fsxattr)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), set, uintptr(unsafe.Pointer(a)))
	if e != 0 {
		return e
	}
	return nil
}
