// Package testnet gives the tests of a package a network of their own: their containers are connected
// to bridges, by rules and with settings that the host shall not have.
//
// A TestMain calls Again when all is built that needs the host's network, and returns what that
// returns; in the copy of the test that it runs, Inside is true.
package testnet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const marker = "CORTEN_TEST_NETWORK"

// Inside reports whether this process is the copy.
func Inside() bool { return os.Getenv(marker) != "" }

// Again runs the test binary again, in a new network namespace, and returns its exit status. Who is
// not root has no use for one: then the copy is in the host's.
func Again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in a network of their own:", err)
		return 1
	}
	return 0
}

// Up sets up the loopback interface of a new network namespace.
func Up() error {
	if os.Geteuid() != 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
