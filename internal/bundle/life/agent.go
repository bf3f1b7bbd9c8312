package life

import (
	"encoding/json"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/errs"
)

// toAgent sends the listener of a process's filter to the agent that answers for what it holds up
// (config-linux.md, "The Container Process State"). status is that of the container; the process
// may be its first or another.
func toAgent(s *record.State, status record.Status) func(pid int, listener *os.File) error {
	return func(pid int, listener *os.File) error {
		profile := s.Container.Security.Seccomp
		first := s.PID
		if first == 0 {
			first = pid
		}
		text, err := json.Marshal(specs.ContainerProcessState{Version: s.Version, Fds: []string{specs.SeccompFdName}, Pid: pid,
			Metadata: profile.ListenerMetadata, State: stateOf(s, status, first)})
		if err != nil {
			return errs.New(errs.Internal, "", "", err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return errs.Wrap("make socket", "", err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: profile.ListenerPath}); err != nil {
			return errs.New(errs.Unavailable, "", "", err).WithHint("start the seccomp agent first, or take SCMP_ACT_NOTIFY out of linux.seccomp")
		}
		rights := unix.UnixRights(int(listener.Fd()))
		for len(text) > 0 {
			n, err := unix.SendmsgN(fd, text, rights, nil, unix.MSG_NOSIGNAL)
			if err != nil && err != unix.EINTR {
				return err
			}
			if err == nil {
				text, rights = text[n:], nil
			}
		}
		return nil
	}
}
