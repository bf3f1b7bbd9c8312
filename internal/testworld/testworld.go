// Package testworld gives the tests of a package a world of their own: the test runs again in new mount,
// pid, cgroup and network namespaces, below control groups made for it. Whatever is there beyond the test
// itself the test has made, so that it can count everything; and when it ends, so does all that is left.
//
// A TestMain calls Again when all is built, and returns what that returns. The copy is PID 1 of the
// world; it calls Settle before its tests, and Tend if it is not to be the parent of orphans.
package testworld

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testnet"
)

// hierarchy is one mounted tree of control groups, and the group of this process in it.
type hierarchy struct {
	mount, fstype, options string
	group                  string
}

// Again makes control groups of a name and runs the test binary again in a new world, with more variables
// in its environment. It returns the exit status.
func Again(name string, env ...string) (int, error) {
	name = fmt.Sprintf("%s-%d", name, os.Getpid())
	list, err := enterGroups(name)
	defer leaveGroups(list, name)
	if err != nil {
		return 1, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return 1, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Tend runs the test binary once more, as a child, and reaps what falls to PID 1 of the world until it
// has ended. It returns its exit status.
func Tend(env ...string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, err
		case pid == cmd.Process.Pid:
			if status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return status.ExitStatus(), nil
		}
	}
}

// hierarchies finds what is mounted below /sys/fs/cgroup.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var list []hierarchy
	for s := bufio.NewScanner(f); s.Scan(); {
		front, back, _ := strings.Cut(s.Text(), " - ")
		fields, more := strings.Fields(front), strings.Fields(back)
		if !strings.HasPrefix(more[0], "cgroup") || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			continue
		}
		h := hierarchy{mount: fields[4], fstype: more[0], options: strings.TrimPrefix(more[2], "rw,")}
		if h.fstype == "cgroup2" {
			h.options = ""
		}
		for line := range strings.Lines(string(own)) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			names, group, _ := strings.Cut(rest, ":")
			if names == h.options {
				h.group = group
			}
		}
		list = append(list, h)
	}
	return list, nil
}

// enterGroups moves this process into a new group of each hierarchy.
func enterGroups(name string) ([]hierarchy, error) {
	list, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for i, h := range list {
		dir := filepath.Join(h.mount, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return list[:i], err
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // a v1 group takes no process before it has these
			if b, err := os.ReadFile(filepath.Join(h.mount, f)); err == nil && h.fstype == "cgroup" {
				if err := os.WriteFile(filepath.Join(dir, f), b, 0); err != nil {
					return list[:i+1], err
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return list[:i+1], err
		}
	}
	return list, nil
}

// leaveGroups goes back and removes the groups with all that is left in them.
func leaveGroups(list []hierarchy, name string) {
	for _, h := range list {
		_ = os.WriteFile(filepath.Join(h.mount, h.group, "cgroup.procs"), []byte("0"), 0)
		// The kernel may take a moment to let go of the last process.
		for deadline := time.Now().Add(5 * time.Second); removeGroup(filepath.Join(h.mount, name)) != nil && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
}

func removeGroup(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			_ = removeGroup(filepath.Join(dir, e.Name()))
		}
	}
	return os.Remove(dir)
}

// Settle makes the new namespaces show themselves: /proc its processes, /sys/fs/cgroup its groups; the
// loopback interface is up.
func Settle() error {
	list, err := hierarchies() // the old mounts still lead to the old groups
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	if err := testnet.Up(); err != nil {
		return fmt.Errorf("set up the loopback interface: %w", err)
	}
	if len(list) > 1 || len(list) == 1 && list[0].mount != "/sys/fs/cgroup" {
		if err := unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
	}
	for _, h := range list {
		if err := os.MkdirAll(h.mount, 0o755); err != nil {
			return err
		}
		options := h.options
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if err := unix.Mount("cgroup", h.mount, h.fstype, 0, options); err != nil {
			return fmt.Errorf("mount %s: %w", h.mount, err)
		}
	}
	return nil
}
