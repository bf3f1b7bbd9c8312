package launch

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/rows"
)

// StandIn is a process that does nothing. systemd makes a scope only around a process that is there,
// and removes it when it is empty: this one is in it until the container's own has been born there. It
// ends with the thread that made it, and so with this process.
type StandIn struct {
	PID   int
	tasks []string
	born  rows.Born
	table *rows.Table // which it uses
	enter int         // an eventfd: it is to enter
	said  int         // an eventfd: it has
}

// rounds is how often a stand-in may be asked to enter its groups.
const rounds = 5

// NewStandIn makes one. tasks are the files of groups that are not there yet.
func NewStandIn(tasks []string) (*StandIn, error) {
	s := &StandIn{tasks: tasks, table: rows.New(8 + rounds*(2+4*len(tasks))), enter: -1, said: -1}
	for _, fd := range []*int{&s.enter, &s.said} {
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			s.close()
			return nil, errs.Wrap("make eventfd", "", err)
		}
	}
	t := s.table
	zero, one := t.Text("0"), t.Num(1)
	count, eight := t.Bytes(append([]byte{1}, make([]byte, 7)...)), t.Num(8)
	t.Call(unix.SYS_PRCTL, t.Num(unix.PR_SET_PDEATHSIG), t.Num(uintptr(unix.SIGKILL)))
	for range rounds {
		t.Call(unix.SYS_READ, t.Num(uintptr(s.enter)), count, eight) // which is 1
		for _, file := range tasks {
			open := t.Call(unix.SYS_OPENAT, t.Num(0), t.Text(file), t.Num(unix.O_WRONLY|unix.O_CLOEXEC)).Tolerate(2, unix.ENOENT)
			fd := t.Result(open)
			t.Call(unix.SYS_WRITE, fd, zero, one).Tolerate(0, unix.ENODEV)
			t.Call(unix.SYS_CLOSE, fd) // it has the descriptors of this process
		}
		t.Call(unix.SYS_WRITE, t.Num(uintptr(s.said)), count, eight)
	}
	t.Call(unix.SYS_PPOLL)
	var err error
	if s.born, err = t.Start(0, -1); err != nil {
		s.close()
		return nil, errs.Wrap("start process", "", err)
	}
	s.PID = s.born.PID
	return s, nil
}

// Enter has it enter the groups after they have been made. systemd clears away groups of v1 that it has not
// made itself and that are empty, when it comes to it: then they are to be made again.
func (s *StandIn) Enter(make func() error) error {
	for range rounds {
		if err := make(); err != nil && !slices.ContainsFunc(s.tasks, missing) {
			return err
		}
		if err := s.goIn(); err != nil {
			return errs.Wrap("enter the control groups of the container", "", err)
		}
		if !slices.ContainsFunc(s.tasks, empty) {
			return nil
		}
	}
	return errs.Newf(errs.Busy, "enter the control groups of the container", "", "systemd clears them away").WithHint("try again")
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return err != nil
}

func empty(file string) bool {
	b, err := os.ReadFile(file)
	return err != nil || len(b) == 0
}

// goIn has it enter those that are there. It does so itself: moving another process takes the kernel a
// hundred times as long.
func (s *StandIn) goIn() error {
	_, err := unix.Write(s.enter, append([]byte{1}, make([]byte, 7)...))
	fds := []unix.PollFd{{Fd: int32(s.said), Events: unix.POLLIN}, {Fd: int32(s.born.PIDFD), Events: unix.POLLIN}}
	for err == nil && fds[0].Revents|fds[1].Revents == 0 {
		if _, err = unix.Poll(fds, -1); err == unix.EINTR {
			err = nil
		}
	}
	if err == nil && fds[0].Revents == 0 {
		return unix.Errno(s.table.Out.Errno)
	}
	if err == nil {
		_, err = unix.Read(s.said, make([]byte, 8))
	}
	return err
}

// End ends it.
func (s *StandIn) End() {
	_ = unix.PidfdSendSignal(s.born.PIDFD, unix.SIGKILL, nil, 0)
	for {
		if _, err := unix.Wait4(s.PID, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	_ = unix.Close(s.born.PIDFD)
	s.close()
}

func (s *StandIn) close() {
	for _, fd := range []int{s.enter, s.said} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
