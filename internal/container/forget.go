package container

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ForgetGone removes what former containers left in ROOT/gone, as long as there is nothing
// better to do: it stops when busy says so. Many may do so at once, and what one cannot
// remove or does not come to the next tries again.
func ForgetGone(dirs Dirs, busy func() bool) {
	gone := filepath.Join(dirs.Root, "gone")
	folder, err := unix.Open(gone, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(folder)
	for _, name := range namesIn(folder) {
		if busy() {
			return
		}
		if !beingRead(filepath.Join(gone, name)) {
			_ = forget(folder, name, busy)
		}
	}
}

// forget removes a file or a directory with all that is in it. Nothing is looked at that does
// not have to be: most directories here are empty, and removing is how to find out.
func forget(parent int, name string, busy func() bool) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == unix.ENOTDIR {
		return unix.Unlinkat(parent, name, 0)
	}
	if err != unix.ENOTEMPTY {
		return err
	}
	dir, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for list := namesIn(dir); len(list) > 0; list = namesIn(dir) {
		for _, n := range list {
			if busy() {
				return unix.EBUSY
			}
			if err := forget(dir, n, busy); err != nil {
				return err
			}
		}
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// namesIn is the next names of a directory; none at its end.
func namesIn(dir int) []string {
	var buf [4096]byte
	n, err := unix.ReadDirent(dir, buf[:])
	if err != nil || n <= 0 {
		return nil
	}
	_, _, list := unix.ParseDirent(buf[:n], -1, nil)
	if len(list) == 0 { // only "." and ".."
		return namesIn(dir)
	}
	return list
}
