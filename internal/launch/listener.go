package launch

import (
	"encoding/binary"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/plan"
)

// handOver takes the listener of a filter out of the process that installs it (pidfd_getfd(2), Linux
// 5.6), has env.Listener send it, and lets the process go on. first is the pidfd of the process that
// we made; it ends if the one that installs the filter, which last tells of, does not come to that:
// then this is no error, since that is told by what the table left.
func (h *host) handOver(first int, last func() int) (err error) {
	defer h.close(plan.ListenerTell)
	defer func() { // it has the listener itself, so it would wait for ever for an answer
		if err != nil {
			_ = unix.PidfdSendSignal(last(), unix.SIGKILL, nil, 0)
		}
	}()
	tell := h.fd(plan.ListenerTell)
	if gone, err := await(first, tell); gone || err != nil {
		return err
	}
	// It is installing the filter, and from there on it cannot be trusted to make another call
	// without the agent. It takes some microseconds.
	fd, answer, ok := h.c.Listener()
	for ; !ok; fd, answer, ok = h.c.Listener() {
		if gone, err := await(first, -1); gone || err != nil {
			return err
		}
		time.Sleep(10 * time.Microsecond)
	}
	pid := last()
	got, err := unix.PidfdGetfd(pid, fd, 0)
	if err == unix.EPERM && nest.Inside() { // our memory is of the namespace that our program was executed in
		return errs.New(errs.Unsupported, "take the listener", "", err).
			WithHint("an ordinary user has filters with a listener as root of a user namespace only: podman unshare, or unshare -rm")
	}
	if err != nil {
		return errs.Wrap("take the listener", "", err)
	}
	f := os.NewFile(uintptr(got), "listener")
	defer f.Close()
	if err := h.env.Listener(pidOf(pid), f); err != nil {
		return err
	}
	_, err = unix.Write(tell, binary.NativeEndian.AppendUint64(nil, answer))
	return errs.Wrap("let the process go on", "", err)
}

// await waits until something can be read, or a process is gone; without anything to read it only looks.
func await(pidfd, readable int) (gone bool, err error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(readable), Events: unix.POLLIN}}
	timeout := -1
	if readable < 0 {
		timeout = 0
	}
	for {
		_, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents != 0 && fds[1].Revents&unix.POLLIN == 0, err
	}
}
