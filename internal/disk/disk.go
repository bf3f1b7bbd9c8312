// Package disk puts things on a disk so that another process, and the machine after a
// power cut, sees all of them or nothing.
//
// A file lives in three steps: it has bytes and no name (Temp), it gets its name in one
// system call (Publish, Replace; WriteFile and Claim do all of it), and it is made to outlast
// power (Sync, SyncDir, SyncFS). Who may change a thing is decided by flock(2), which the
// kernel drops when its holder dies, however it dies.
//
// Two audiences see a change at two times, and each function says which: other processes
// see what system calls did, in their order; a machine that lost power sees what was made
// durable, and of the rest any part in any order that the file system did not promise.
package disk

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Durability says what outlasts a power cut once a call has returned.
type Durability uint8

const (
	Volatile Durability = iota // nothing: after a power cut the file may be old, new, empty or gone
	Durable                    // the new content under its name
)

// tempPrefix begins the names of files that are not yet what they are going to be. A
// writer that was killed leaves at most such a file; see IsTemp.
const tempPrefix = ".tmp-"

// IsTemp reports whether name, a directory entry, is that of a file in the making. Who
// knows that no writer is alive may remove it.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// WriteFile replaces the file at path by one with this content, or creates it. Readers
// never wait and see the old file or the new one, whole; a file that they have open stays as
// it was. Writers that race each win for a moment: whoever reads, changes and writes needs a
// lock.
func WriteFile(path string, data []byte, perm os.FileMode, d Durability) error {
	return write(path, data, perm, d, (*Temp).Replace)
}

// Claim creates the file at path with this content. Of those that race one succeeds, the
// others get an error of kind Exists; nobody sees the name without the content.
func Claim(path string, data []byte, perm os.FileMode, d Durability) error {
	return write(path, data, perm, d, (*Temp).Publish)
}

func write(path string, data []byte, perm os.FileMode, d Durability, publish func(*Temp, string) error) error {
	t, err := CreateTemp(filepath.Dir(path), perm)
	if err != nil {
		return err
	}
	defer t.Close() // after an error nothing is left; else it has nothing to do
	if _, err := t.Write(data); err != nil {
		return errs.Wrap("write", path, cause(err))
	}
	if d == Durable {
		// Before it has its name: after that, a power cut could leave the name on no content.
		if err := t.Sync(); err != nil {
			return errs.Wrap("sync", path, cause(err))
		}
	}
	if err := publish(t, path); err != nil { // now other processes see it
		return err
	}
	if d == Durable {
		return SyncDir(filepath.Dir(path)) // now a power cut cannot take it back
	}
	return nil
}

// SyncDir makes the names in a directory durable: what was created, renamed and removed
// there, not what the files hold.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return errs.Wrap("sync directory", dir, cause(err))
	}
	defer f.Close()
	return errs.Wrap("sync directory", dir, cause(f.Sync()))
}

// SyncFS makes everything durable that anyone has written to the file system that f is
// on. It fails if writing back failed for any file since f was opened (Linux 5.8): so open
// f first, then write, then call this.
func SyncFS(f *os.File) error {
	return errs.Wrap("sync file system of", f.Name(), cause(ignoringEINTR(func() error { return unix.Syncfs(int(f.Fd())) })))
}

// Space is the room on a file system.
type Space struct {
	Total, Free  int64 // bytes; Free is what an ordinary user may still take
	Inodes, Left int64 // files there can be and can still be; 0, 0 where there is no limit
}

// SpaceOf tells the room on the file system that path is on.
func SpaceOf(path string) (Space, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(path, &st) }); err != nil {
		return Space{}, errs.Wrap("ask for free space of", path, err)
	}
	unit := int64(st.Bsize)
	return Space{
		Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit,
		Inodes: int64(st.Files), Left: int64(st.Ffree),
	}, nil
}

// cause strips the operation and path that package os adds: an errs.Error says them once.
func cause(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	case *os.SyscallError:
		return e.Err
	}
	return err
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// unique is a name that no other process takes by chance: the process, the time, a count.
func unique(try int) string {
	return strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(try)
}
