package kernel

import "golang.org/x/sys/unix"

// MountID is the number of the mount that a path, relative to an open directory, lies on: one that is
// never given again (Linux 6.8) or, before, one that may be (Linux 5.8). The former are above all of the
// latter. Of the directory itself with an empty path.
func MountID(dir int, path string) (uint64, error) {
	var st unix.Statx_t
	flags := 0
	if path == "" {
		flags = unix.AT_EMPTY_PATH
	}
	for _, mask := range [2]int{unix.STATX_MNT_ID_UNIQUE, unix.STATX_MNT_ID} {
		if err := unix.Statx(dir, path, flags, mask, &st); err != nil {
			return 0, err
		}
		if st.Mask&uint32(mask) != 0 {
			return st.Mnt_id, nil
		}
	}
	return 0, unix.ENOSYS
}
