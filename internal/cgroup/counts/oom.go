package counts

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// OOM tells when memory of a group ran out.
type OOM struct {
	file   int // memory.events of v2; memory.oom_control of v1
	event  int // v1: the kernel counts it up for each time; v2: -1
	killed uint64
}

// WatchOOM begins to look. Nil: memory of the group is not counted.
func WatchOOM(group []string) (*OOM, error) {
	for _, dir := range group {
		file, err := unix.Open(filepath.Join(dir, "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			o := &OOM{file: file, event: -1}
			o.killed = o.kills()
			return o, nil
		}
		if file, err = unix.Open(filepath.Join(dir, "memory.oom_control"), unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			return watchV1(dir, file)
		}
	}
	return nil, nil
}

// watchV1 asks for notice ("OOM Control" in the kernel's cgroup-v1/memory.rst).
func watchV1(dir string, file int) (*OOM, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		control := filepath.Join(dir, "cgroup.event_control")
		err = os.WriteFile(control, []byte(strconv.Itoa(event)+" "+strconv.Itoa(file)), 0)
		if err == nil {
			return &OOM{file: file, event: event}, nil
		}
		_ = unix.Close(event)
	}
	_ = unix.Close(file)
	return nil, errs.Wrap("watch memory of control group", dir, err)
}

// Close ends it.
func (o *OOM) Close() {
	_ = unix.Close(o.file)
	if o.event >= 0 {
		_ = unix.Close(o.event)
	}
}

// Poll is what to wait for.
func (o *OOM) Poll() unix.PollFd {
	if o.event >= 0 {
		return unix.PollFd{Fd: int32(o.event), Events: unix.POLLIN}
	}
	return unix.PollFd{Fd: int32(o.file), Events: unix.POLLPRI}
}

// Happened says how often memory ran out since the last call. V2 tells of other things by the same
// notice, and has to be read for the next one.
func (o *OOM) Happened() uint64 {
	if o.event < 0 {
		before := o.killed
		o.killed = o.kills()
		return max(o.killed, before) - before
	}
	var count [8]byte
	if _, err := unix.Read(o.event, count[:]); err != nil {
		return 0
	}
	return 1
}

// kills is oom_kill of memory.events, read by the descriptor that is waited for; once the group is gone
// it is what it was.
func (o *OOM) kills() uint64 {
	var text [512]byte
	n, err := unix.Pread(o.file, text[:], 0)
	if err != nil {
		return o.killed
	}
	return table(string(text[:n]))["oom_kill"]
}
