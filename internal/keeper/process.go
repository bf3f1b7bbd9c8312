package keeper

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// The numbers of descriptors that a keeper is given, by whoever started the container or by
// the keeper that it was before it executed itself anew. Each but the lock may be missing,
// and is taken for what it should be only after a look.
const (
	lockFD = 3 + iota
	pidFD
	masterFD
	stdinFD
	stdoutFD
	stderrFD
	notifyFD
	udpFD // of the server of names, as is the next
	tcpFD
	portsFD   // holds the host's ports that the container publishes: only kept open
	firstFree = kernel.SignalFD + 1
)

// process is the container's PID 1.
type process struct {
	pid   int
	pidfd int // -1: it is gone
}

// openProcess finds PID 1: by the descriptor that was passed, or by its number. The number
// is its own if it began when the orders say so.
func openProcess(o Orders) process {
	if infoPID(pidFD) == o.PID {
		return process{o.PID, pidFD}
	}
	fd, err := unix.PidfdOpen(o.PID, 0)
	if err != nil {
		return process{o.PID, -1}
	}
	// The look comes after the descriptor is there: whoever has the number now and began
	// before had it all the time.
	if stat := readStat(o.PID); len(stat) < 20 || stat[19] != strconv.FormatUint(o.Start, 10) {
		unix.Close(fd)
		return process{o.PID, -1}
	}
	return process{o.PID, settle(fd, pidFD)}
}

// settle gives a descriptor its number.
func settle(fd, number int) int {
	if fd == number {
		return fd
	}
	if err := unix.Dup3(fd, number, unix.O_CLOEXEC); err != nil {
		return fd
	}
	unix.Close(fd)
	return number
}

// infoPID is the process that a pidfd is of, -1 if it is gone, 0 if it is no pidfd.
func infoPID(fd int) int {
	b, err := readFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}

// readStat returns the fields of /proc/PID/stat (proc(5)) from the third, the state, on; nil
// if there is no such process.
func readStat(pid int) []string {
	b, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// end says how PID 1 ended, which it has. Its parent is told by the kernel; everybody else
// has to ask around.
func (p process) end(folder string) Ended {
	now := time.Now().UnixNano()
	var ws unix.WaitStatus
	pid, err := retry(func() (int, error) { return unix.Wait4(p.pid, &ws, unix.WNOHANG, nil) })
	if err == nil && pid == p.pid && p.pidfd >= 0 {
		return endedBy(ws, now)
	}
	if b, err := readFile(folder + "/" + ExitName); err == nil && len(b) > 0 {
		return Ended{Status: int(b[0]), Time: now}
	}
	if p.pidfd >= 0 {
		if ws, known := kernel.ExitOf(p.pidfd); known {
			return endedBy(ws, now)
		}
		// Nobody has reaped it yet.
		if stat := readStat(p.pid); len(stat) >= 50 && stat[0] == "Z" && infoPID(p.pidfd) == p.pid {
			if n, err := strconv.Atoi(stat[49]); err == nil {
				return endedBy(unix.WaitStatus(n), now)
			}
		}
	}
	return Ended{Status: 255, Time: now, Unknown: true}
}

func endedBy(ws unix.WaitStatus, now int64) Ended {
	if ws.Signaled() {
		return Ended{Status: 128 + int(ws.Signal()), Signal: int(ws.Signal()), Time: now}
	}
	return Ended{Status: ws.ExitStatus(), Time: now}
}

// age is how long ago PID 1 began, in ns.
func (o Orders) age() int64 {
	const tick = second / 100 // USER_HZ is 100 on every architecture that Corten knows
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return ts.Nano() - int64(o.Start)*tick
}

// isTerminal tells the master of a terminal from anything else.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return err == nil
}

// openMaster finds the master of the container's terminal: the descriptor that was passed,
// or the one that PID 1 holds.
func (o Orders) openMaster(p process) int {
	if isTerminal(masterFD) {
		_ = unix.SetNonblock(masterFD, true)
		return masterFD
	}
	if p.pidfd < 0 {
		return -1
	}
	fd, err := unix.PidfdGetfd(p.pidfd, o.Guard, 0)
	if err != nil {
		return -1
	}
	if !isTerminal(fd) {
		unix.Close(fd)
		return -1
	}
	_ = unix.SetNonblock(fd, true)
	return settle(fd, masterFD)
}

// openFIFO finds a FIFO of the folder: the descriptor that was passed, or its name. -1:
// there is none, or, for writing, nobody reads it.
func openFIFO(path string, number, flags int) int {
	var want, got unix.Stat_t
	if unix.Stat(path, &want) == nil && unix.Fstat(number, &got) == nil && want.Ino == got.Ino && want.Dev == got.Dev {
		if mode, err := unix.FcntlInt(uintptr(number), unix.F_GETFL, 0); err == nil && mode&unix.O_ACCMODE == flags {
			_ = unix.SetNonblock(number, true)
			return number
		}
	}
	fd, err := retry(func() (int, error) { return unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1
	}
	return settle(fd, number)
}
