package kernel

import (
	"encoding/binary"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The test runs itself: the handlers stay for the life of a process.
func TestCatchSignals(t *testing.T) {
	if os.Getenv("CATCH") != "" {
		catchThem()
		return
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestCatchSignals$")
	c.Env = append(os.Environ(), "CATCH=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func catchThem() {
	var p [2]int
	must(unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	r, err := unix.FcntlInt(uintptr(p[0]), unix.F_DUPFD_CLOEXEC, SignalFD+1)
	must(err)
	must(unix.Dup3(p[1], SignalFD, unix.O_CLOEXEC))
	caught := []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1}
	must(CatchSignals(caught...))
	for range 1000 {
		for _, s := range caught {
			must(unix.Kill(unix.Getpid(), s))
			fds := []unix.PollFd{{Fd: int32(r), Events: unix.POLLIN}}
			for {
				if _, err := unix.Poll(fds, -1); err == nil {
					break
				}
			}
			var b [8]byte
			n, err := unix.Read(r, b[:])
			must(err)
			if n != 8 || binary.LittleEndian.Uint64(b[:]) != uint64(s) {
				panic("another signal came")
			}
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
