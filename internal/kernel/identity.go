package kernel

import "golang.org/x/sys/unix"

// FilesAs makes this thread create files as a user and a group, with all the capabilities that it
// has (securebits(7), no-setuid-fixup). The goroutine must be locked to it. Until undo is called,
// file systems know it by these ids alone; EPERM says that it may not have them.
func FilesAs(uid, gid uint32) (undo func(), err error) {
	old, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return nil, err
	}
	const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP, <linux/securebits.h>
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(old)|noSetuidFixup, 0, 0, 0); err != nil {
		return nil, err
	}
	undo = func() {
		_ = unix.Setfsuid(unix.Geteuid())
		_ = unix.Setfsgid(unix.Getegid())
		_ = unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(old), 0, 0, 0)
	}
	// These calls report no error, but what they find set: -1 is no id and changes nothing.
	_, _ = unix.SetfsgidRetGid(int(gid))
	_, _ = unix.SetfsuidRetUid(int(uid))
	nowGID, _ := unix.SetfsgidRetGid(-1)
	nowUID, _ := unix.SetfsuidRetUid(-1)
	if nowGID != int(gid) || nowUID != int(uid) {
		undo()
		return nil, unix.EPERM
	}
	return undo, nil
}
