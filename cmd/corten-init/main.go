// Command corten-init is PID 1 of a container: it starts the command, passes signals on to
// it, reaps whatever is orphaned, and ends with the command's exit status, on which the
// kernel ends the rest of the container.
//
// It runs inside, as the container's user, and must not be a way in: it makes itself
// undumpable, so that nobody inside can trace it or read its memory, and Corten installs
// it unreadable for others, which has the kernel refuse the same (would_dump in exec).
package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// report is the pipe to whoever started the container. It closes when the command runs;
// before, it carries the errno that kept it from running.
const report = 3

func main() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	syscall.CloseOnExec(report)
	if len(os.Args) < 2 {
		fail(syscall.EINVAL)
	}
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	child, err := start(os.Args[1:])
	if err != nil {
		fail(err)
	}
	_ = syscall.Close(report)
	for s := range signals {
		if code, done := reap(child); done {
			os.Exit(code)
		}
		switch s {
		case syscall.SIGCHLD, syscall.SIGURG: // SIGURG is the Go scheduler's own
		default:
			_ = syscall.Kill(child, s.(syscall.Signal))
		}
	}
}

// start runs the command in a process group of its own, which has the terminal if there is
// one: job control then works, and a signal to the group does not come back to us.
func start(args []string) (int, error) {
	attr := &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	// Only of our own controlling terminal; stdin may be one that belongs to the host.
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	paths := []string{args[0]}
	if !hasSlash(args[0]) {
		paths = inPath(args[0])
	}
	last := error(syscall.ENOENT)
	for _, p := range paths {
		pid, err := syscall.ForkExec(p, args, attr)
		if err == nil {
			return pid, nil
		}
		if err != syscall.ENOENT && err != syscall.ENOTDIR && err != syscall.EACCES {
			return 0, err
		}
		if err == syscall.EACCES {
			last = err // there, but not executable: better said than "not found"
		}
	}
	return 0, last
}

func hasSlash(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			return true
		}
	}
	return false
}

// inPath lists the files that a command's name may mean.
func inPath(name string) []string {
	var out []string
	dirs := os.Getenv("PATH")
	for start, i := 0, 0; i <= len(dirs); i++ {
		if i < len(dirs) && dirs[i] != ':' {
			continue
		}
		dir := dirs[start:i]
		if dir == "" {
			dir = "."
		}
		if file := dir + "/" + name; exists(file) {
			out = append(out, file)
		}
		start = i + 1
	}
	return out
}

// exists spares a fork for each directory of PATH that has no such file.
func exists(file string) bool {
	var st syscall.Stat_t
	return syscall.Stat(file, &st) == nil && st.Mode&syscall.S_IFMT != syscall.S_IFDIR
}

// reap collects every dead child; done is set once the command is among them.
func reap(child int) (code int, done bool) {
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return code, done
		}
		if pid == child {
			done = true
			if code = st.ExitStatus(); st.Signaled() {
				code = 128 + int(st.Signal())
			}
		}
	}
}

// fail reports why the command does not run and ends as a shell would.
func fail(err error) {
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EIO
	}
	_, _ = syscall.Write(report, []byte{byte(errno)})
	if errno == syscall.ENOENT || errno == syscall.ENOTDIR {
		os.Exit(127)
	}
	os.Exit(126)
}
