// Package crash_test holds Corten to being crash-only: any process may be killed at any
// instruction, any system call may fail, and nothing is lost, nothing is wedged, and the
// next command cleans up.
//
// The tests live in a world of their own: TestMain starts the test again in new mount, pid
// and cgroup namespaces, below control groups made for it. Whatever is in that world beyond
// the test itself was left by a container, so that the tests can count everything, and
// nothing of the machine can be mistaken for it or harmed.
//
// A few points of each start, and a few dozen rounds at random, are tried by default;
// CORTEN_CRASH=full tries all points and 500 rounds, CORTEN_CRASH_ROUNDS says how many rounds.
package crash_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testnet"
)

// inside is set for the copy of the test that runs in the world of its own: the folder of
// the built programs.
const inside = "CORTEN_CRASH_BIN"

// full reports whether to try every point rather than a few.
func full() bool { return os.Getenv("CORTEN_CRASH") == "full" }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == writerName {
		os.Exit(write(os.Args[1:]))
	}
	if os.Getenv(inside) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "make a world for the test:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("skipped: needs root")
		os.Exit(0)
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a world for the test:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds the programs, makes the control groups, and runs the test again in them.
func outside() (int, error) {
	bin, err := os.MkdirTemp("", "corten-crash-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := build(bin); err != nil {
		return 1, err
	}
	groups, err := enterGroups(fmt.Sprintf("corten-crash-%d", os.Getpid()))
	defer leaveGroups(groups)
	if err != nil {
		return 1, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+bin)
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

func build(bin string) error {
	for _, args := range [][]string{
		{"build", "-ldflags", "-E=github.com/cortenhq/corten/internal/kernel/nest.entry", "-o", bin, "github.com/cortenhq/corten/cmd/corten", "github.com/cortenhq/corten/cmd/corten-image"},
		{"build", "-o", bin, "github.com/cortenhq/corten/cmd/corten-format", "github.com/cortenhq/corten/cmd/corten-keeper", "github.com/cortenhq/corten/cmd/corten-net"},
		{"build", "-ldflags", "-E=main.entry", "-o", bin, "github.com/cortenhq/corten/cmd/corten-init"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if err := os.Chmod(filepath.Join(bin, "corten-init"), 0o711); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, writerName), self, 0o755)
}

// hierarchy is one mounted tree of control groups, and the group of this process in it.
type hierarchy struct {
	mount, fstype, options string
	group                  string
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
func leaveGroups(list []hierarchy) {
	name := fmt.Sprintf("corten-crash-%d", os.Getpid())
	for _, h := range list {
		_ = os.WriteFile(filepath.Join(h.mount, h.group, "cgroup.procs"), []byte("0"), 0)
		removeGroup(filepath.Join(h.mount, name))
	}
}

func removeGroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeGroup(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}

// settle makes the new namespaces show themselves: /proc its processes, /sys/fs/cgroup its
// groups.
func settle() error {
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
