//go:build !amd64

package crash_test

import (
	"os/exec"
	"syscall"
	"testing"
)

// Tracing sets registers, which are known for amd64 only.
const canTrace = false

type call struct {
	pid, nr int
	args    [6]uint64
	child   bool
	role    string
	process int
}

type verdict struct {
	killCommand, killCaller, letGo bool
	fail                           syscall.Errno
}

func trace(t testing.TB, _ *exec.Cmd, _ func(call) verdict) syscall.WaitStatus {
	t.Skip("needs an amd64 machine")
	return 0
}

func traceKept(t testing.TB, cmd *exec.Cmd, judge func(call) verdict) syscall.WaitStatus {
	return trace(t, cmd, judge)
}
