package attend

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// firstPassed is where descriptors begin that a program is given, sd_listen_fds(3).
const firstPassed = 3

// listening is how many sockets systemd has opened for this very process.
func (a *attendant) listening() int {
	if pid, _ := a.env.LookupEnv("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	text, _ := a.env.LookupEnv("LISTEN_FDS")
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1000 {
		return 0
	}
	return n
}

// passed takes the descriptors that the container is to have: those of socket activation, and
// more after them.
func (a *attendant) passed(more int) (engine.Passed, error) {
	p := engine.Passed{Listen: a.listening()}
	if p.Listen > 0 {
		p.Names, _ = a.env.LookupEnv("LISTEN_FDNAMES")
	}
	for fd := firstPassed; fd < firstPassed+p.Listen+more; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		// What the Go runtime has opened by now closes at an exec; what was given does not.
		if keep, e := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || e != nil || keep&unix.FD_CLOEXEC != 0 {
			return p, errs.Newf(errs.Invalid, "", "--preserve-fds "+strconv.Itoa(more), "descriptor "+strconv.Itoa(fd)+" is not open").
				WithHint("open it in the shell: corten run --preserve-fds 1 ... 3<FILE")
		}
		unix.CloseOnExec(fd)
		// A file that does not block becomes one that does when the launcher asks for its number:
		// package os must not know, for the flag is the caller's and the container's too.
		if flags&unix.O_NONBLOCK != 0 {
			_ = unix.SetNonblock(fd, false)
		}
		p.Files = append(p.Files, os.NewFile(uintptr(fd), "passed"))
		if flags&unix.O_NONBLOCK != 0 {
			_ = unix.SetNonblock(fd, true)
		}
	}
	return p, nil
}

// notDetached refuses a start in the background that would lose sockets.
func (a *attendant) notDetached() error {
	if a.listening() == 0 {
		return nil
	}
	return errs.Newf(errs.Unsupported, "", "--detach in a unit with sockets", "only a container in the foreground can have them").
		WithHint("leave -d out: corten run is then the service's own process")
}
