package life

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// checkConsole refuses a terminal that nobody would have, and a socket without one.
func checkConsole(terminal bool, socket string, stays bool) error {
	switch {
	case terminal && socket == "" && !stays:
		return errs.Newf(errs.Invalid, "make terminal", "", "nobody would have it").
			WithHint("name a socket with --console-socket, or set process.terminal to false")
	case !terminal && socket != "":
		return errs.Newf(errs.Invalid, "use console socket", socket, "there is no terminal to be sent").
			WithHint("set process.terminal to true, or leave --console-socket out")
	}
	return nil
}

// sendTerminal sends the master of a terminal to a Unix socket (SCM_RIGHTS), with a name as other
// runtimes do.
func sendTerminal(socket string, terminal *os.File) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("make socket", "", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return errs.Wrap("connect to console socket", socket, err)
	}
	return errs.Wrap("send terminal to", socket, unix.Sendmsg(fd, []byte("/dev/ptmx"), unix.UnixRights(int(terminal.Fd())), nil, 0))
}
