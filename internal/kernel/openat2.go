package kernel

import "golang.org/x/sys/unix"

// OpenAt2 is openat2(2), Linux 5.6. Where a path is resolved within a directory the kernel gives
// up with EAGAIN if somebody renames or mounts anything, anywhere, in the wrong moment: then it
// is tried again, but not for ever, since that somebody may be an attacker.
func OpenAt2(dir int, path string, how unix.OpenHow) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR || try == 10_000 {
			return fd, err
		}
	}
}
