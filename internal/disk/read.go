package disk

import (
	"io/fs"
	"math"

	"golang.org/x/sys/unix"
)

// Read is os.ReadFile for small files that never keep a reader waiting: of a disk, of /proc,
// of /sys. Package os asks the poller about each file first, and that takes more system calls
// than to read it.
func Read(path string) ([]byte, error) { return ReadAtMost(path, math.MaxInt) }

// ReadAtMost is Read that stops after a number of bytes.
func ReadAtMost(path string, most int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, b[len(b):min(cap(b), most)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		default:
			if b = b[:len(b)+n]; len(b) == cap(b) && len(b) < most {
				b = append(b, 0)[:len(b)]
			}
		}
	}
}
