package kernel

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ChildSpec says what kind of child StartChild makes.
type ChildSpec struct {
	Flags   uint64 // CLONE_NEW* and others, for clone3
	Unshare int    // CLONE_NEW* of namespaces that the child makes itself, once it is there
	Cgroup  int    // descriptor of a cgroup v2 directory, if Flags has CLONE_INTO_CGROUP
	Hold    bool   // it stays until it is closed; else it ends at once
}

// Child is a process that executes nothing. It is there to be looked at: it holds the
// namespaces that it was made in, or shows that they can be made. It is a copy of this
// process, ends with it, and has none of its descriptors.
type Child struct {
	PID   int
	Pidfd int
	hold  *os.File // the writing end of the pipe that it waits on
}

// StartChild makes a child by clone3 (Linux 5.3). What the child itself was refused, Wait
// tells.
func StartChild(s ChildSpec) (*Child, error) {
	wait := -1
	var ours *os.File
	if s.Hold {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		wait, ours = int(r.Fd()), w
	}
	pid, pidfd, err := fork(s, wait)
	if err != nil {
		if ours != nil {
			ours.Close()
		}
		return nil, err
	}
	return &Child{PID: pid, Pidfd: pidfd, hold: ours}, nil
}

// Wait waits for the end of a child that is not held, and returns the error that it met. It
// waits by descriptor (P_PIDFD: Linux 5.4).
func (c *Child) Wait() error {
	for {
		err := unix.Waitid(unix.P_PIDFD, c.Pidfd, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			return c.reap()
		}
		if err != unix.EINTR {
			return err
		}
	}
}

// reap returns the errno that the child ended with.
func (c *Child) reap() error {
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != unix.EINTR {
			c.PID = 0
			if err != nil {
				return err
			}
			break
		}
	}
	if code := ws.ExitStatus(); code > 0 {
		return unix.Errno(code)
	}
	return nil
}

// Close ends the child, if it has not been waited for, and closes its descriptors.
func (c *Child) Close() {
	if c.hold != nil {
		c.hold.Close()
	}
	if c.PID != 0 {
		_ = unix.Kill(c.PID, unix.SIGKILL) // not reaped yet, so the number is still its own
		_ = c.reap()
	}
	unix.Close(c.Pidfd)
}

// Proc is the path of a file of the child's below /proc.
func (c *Child) Proc(name string) string { return "/proc/" + strconv.Itoa(c.PID) + "/" + name }
