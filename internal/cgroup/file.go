package cgroup

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Control files are small, never block for long and are opened by the thousand; they are read
// and written by plain system calls, without os.File and its poller. A signal may interrupt
// any of these calls, such as a limit that first reclaims memory, and Go's scheduler sends
// signals of its own: each is repeated on EINTR.

func open(file string, flags int) (int, error) {
	for {
		fd, err := unix.Open(file, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readFile(file string) (string, error) {
	fd, err := open(file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(buf), nil
		}
		buf = buf[:len(buf)+n]
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// writeFile writes value in one call: the kernel takes each call for a value of its own.
// The file is never created, so a missing controller cannot be mistaken for a plain file.
func writeFile(file, value string) error {
	fd, err := open(file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if _, err = unix.Write(fd, []byte(value)); err != unix.EINTR {
			return err
		}
	}
}

// readNumber reads a file with one number. "max" is -1.
func readNumber(file string) (int64, error) {
	s, err := readFile(file)
	if err != nil {
		return 0, err
	}
	return number(strings.TrimSuffix(s, "\n"))
}

// number reads a number of the kernel. What does not fit (v1 writes limits up to 2^64) is
// the highest number.
func number(s string) (int64, error) {
	if s == "max" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return int64(min(n, 1<<63-1)), err
}

// field finds the line "NAME NUMBER" of a file such as memory.events; 0 if it has none.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if key == name {
			n, _ := number(value)
			return n
		}
	}
	return 0
}

// isGone reports whether an error says that the file or its group is not there. ENODEV is
// what an open file answers after its group was removed.
func isGone(err error) bool { return err == unix.ENOENT || err == unix.ENODEV }
