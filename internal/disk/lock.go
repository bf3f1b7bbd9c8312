package disk

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// How says in which way a file is to be locked.
type How int

const (
	Shared       How = unix.LOCK_SH                // with others that share
	Exclusive    How = unix.LOCK_EX                // alone
	TryShared    How = unix.LOCK_SH | unix.LOCK_NB // at once, or an error of kind Busy
	TryExclusive How = unix.LOCK_EX | unix.LOCK_NB
)

// Flock locks f, waiting for those in the way. The lock belongs to the open file: it ends
// with Funlock, with f's last descriptor, or with the process. Two goroutines that share f
// share the lock and need a mutex between them.
func Flock(f *os.File, how How) error {
	err := ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), int(how)) })
	if err == unix.EWOULDBLOCK {
		return errs.Newf(errs.Busy, "lock", f.Name(), "locked by another process")
	}
	return errs.Wrap("lock", f.Name(), err)
}

// Funlock unlocks f. That cannot fail on an open file.
func Funlock(f *os.File) { unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// OpenLocked opens the file at path, creating it if need be, and locks it. Closing the file
// unlocks it.
//
// A lock file may be removed by who holds it exclusively, as the last thing done under the
// lock. Then somebody who was waiting wakes with a lock on a file that has no name any more,
// while the next one creates and locks another: two holders. So here the lock counts only
// if the path still leads to the file that was locked; else all starts again.
func OpenLocked(path string, flag int, how How) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, flag|os.O_CREATE, 0o600)
		if err != nil {
			return nil, errs.Wrap("open", path, cause(err))
		}
		if err := Flock(f, how); err != nil {
			f.Close()
			return nil, err
		}
		same, err := isAt(f, path)
		if same {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, errs.Wrap("lock", path, err)
		}
	}
}

// isAt reports whether path leads to the open file f.
func isAt(f *os.File, path string) (bool, error) {
	var at, open unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &open); err != nil {
		return false, err
	}
	switch err := unix.Stat(path, &at); err {
	case nil:
		return at.Dev == open.Dev && at.Ino == open.Ino, nil
	case unix.ENOENT:
		return false, nil
	default:
		return false, err
	}
}

// Lock takes the lock file at path for its caller alone, creating it if need be, and
// waits until it can. The lock ends with unlock or with the process.
func Lock(path string) (unlock func() error, err error) { return lock(path, Exclusive) }

// RLock is Lock, shared with others that call RLock.
func RLock(path string) (unlock func() error, err error) { return lock(path, Shared) }

// TryLock is Lock that does not wait: the error's kind is Busy when somebody has it.
func TryLock(path string) (unlock func() error, err error) { return lock(path, TryExclusive) }

func lock(path string, how How) (func() error, error) {
	f, err := OpenLocked(path, os.O_RDONLY, how)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}
