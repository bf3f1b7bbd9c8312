package attend

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/errs"
)

// attachOnly takes the streams that --attach does not name away from the container that is to
// be run: what it writes there goes to its log only, and an input that nobody is attached to
// stays open and silent. Our own words go on to where stderr was.
func (a *attendant) attachOnly(s runflags.Streams, interactive bool) error {
	if s == (runflags.Streams{}) {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return errs.Wrap("--attach", "", err)
	}
	defer null.Close()
	if !s.Stderr {
		own, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return errs.Wrap("--attach", "", err)
		}
		a.shell.Stderr = os.NewFile(uintptr(own), "stderr")
		if err := unix.Dup3(int(null.Fd()), 2, 0); err != nil {
			return errs.Wrap("--attach", "", err)
		}
	}
	if !s.Stdout {
		if err := unix.Dup3(int(null.Fd()), 1, 0); err != nil {
			return errs.Wrap("--attach", "", err)
		}
	}
	if s.Stdin || !interactive {
		return nil
	}
	var silent [2]int // its other end is open as long as we are
	if err = unix.Pipe2(silent[:], unix.O_CLOEXEC); err == nil {
		err = unix.Dup3(silent[0], 0, 0)
		_ = unix.Close(silent[0])
	}
	return errs.Wrap("--attach", "", err)
}
