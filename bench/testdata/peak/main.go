// Peak runs a command, writes the largest resident set that any process of it had, in KiB,
// to descriptor 3, and exits as the command did. It stands between the benchmark and the
// command because a process is charged with the memory it had before exec: forked from
// the benchmark, everything would look as large as the benchmark; forked from here, as large
// as this at least, about 2 MiB.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	syscall.CloseOnExec(3)
	argv := os.Args[1:]
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: syscall.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		os.Stderr.WriteString(argv[0] + ": " + err.Error() + "\n")
		os.Exit(127)
	}
	var status syscall.WaitStatus
	var use syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &use); err != syscall.EINTR {
			break
		}
	}
	syscall.Write(3, []byte(strconv.FormatInt(use.Maxrss, 10)))
	if status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(status.ExitStatus())
}
