// Package stage gives a benchmark a stage of its own to run on: processes, mounts, control groups and
// files that are gone when it ends, however it ends.
package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A run is three processes of this program. The outer one makes a folder and cgroups and
// starts the init as PID 1 of new pid and mount namespaces; the init starts the inner one,
// which measures, and reaps orphans, which the peers make. To end a run, in success or at an
// interrupt, is to end the init: the kernel then kills every process in the pid namespace
// before the outer's wait returns, and the mounts go with the mount namespace. What remains
// are a folder and empty cgroups, and the outer removes those.
const (
	stageVar  = "CORTEN_BENCH_STAGE"   // "", "init" or "inner"
	dirVar    = "CORTEN_BENCH_DIR"     // the run's folder
	cgroupVar = "CORTEN_BENCH_CGROUPS" // the run's cgroups, separated by colons
)

// Run runs this program again on a stage with control groups of a version, and there inner, which is given
// the run's folder. It returns the exit status.
func Run(version int, inner func(dir string) (int, error)) (int, error) {
	dir := os.Getenv(dirVar)
	switch os.Getenv(stageVar) {
	case "init":
		return initStage()
	case "inner":
		for _, v := range []string{stageVar, dirVar, cgroupVar} {
			os.Unsetenv(v)
		}
		if err := mountViews(version, dir); err != nil {
			return 1, err
		}
		return inner(dir)
	}
	return outerStage(version)
}

func outerStage(version int) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("not permitted: run as root, for example with sudo make bench")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	base := os.Getenv("TMPDIR")
	if base == "" {
		base = "/var/tmp" // on a disk, where /tmp may be in memory
	}
	dir, err := os.MkdirTemp(base, "corten-bench-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	groups, err := makeCgroups(version, filepath.Base(dir))
	defer func() { err = errors.Join(err, removeCgroups(groups)) }()
	if err != nil {
		return 1, err
	}

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVar+"=init", dirVar+"="+dir, cgroupVar+"="+strings.Join(groups, ":"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-stop:
		cmd.Process.Kill()
		<-ended
		return 130, errors.New("interrupted")
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return 1, err
		}
		return cmd.ProcessState.ExitCode(), nil
	}
}

// makeCgroups makes a cgroup of the given name below the one this process is in: in the v2
// hierarchy, or in every v1 hierarchy.
func makeCgroups(version int, name string) (made []string, err error) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path, cgroups(7)
		if len(f) != 3 || (f[1] == "") != (version == 2) {
			continue
		}
		at := mountOfCgroup(f[1])
		if at == "" {
			continue
		}
		dir := filepath.Join(at, f[2], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return made, err
		}
		made = append(made, dir)
		if f[1] == "cpuset" { // empty in a new v1 cgroup, and no process may enter then
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				v, _ := os.ReadFile(filepath.Join(at, f[2], file))
				if err := os.WriteFile(filepath.Join(dir, file), v, 0); err != nil {
					return made, err
				}
			}
		}
	}
	if len(made) == 0 {
		return nil, fmt.Errorf("no cgroup version %d is mounted: try -cgroup %d", version, 3-version)
	}
	return made, nil
}

// mountOfCgroup is where the v1 hierarchy of the controllers, or with none v2, is mounted.
func mountOfCgroup(controllers string) string {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if controllers == "" && f[2] == "cgroup2" {
			return f[1]
		}
		if f[2] != "cgroup" || controllers == "" {
			continue
		}
		opts := strings.Split(f[3], ",")
		if !slices.ContainsFunc(strings.Split(controllers, ","), func(c string) bool { return !slices.Contains(opts, c) }) {
			return f[1]
		}
	}
	return ""
}

// removeCgroups removes the cgroups with all below them. The kernel may take a moment to let
// go of the last process.
func removeCgroups(groups []string) error {
	var last error
	for _, g := range groups {
		for range 100 {
			if last = removeTree(g); last == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return last
}

func removeTree(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", d, err)
		}
	}
	return err
}

// initStage enters the cgroups, starts the inner stage and reaps until that ends.
func initStage() (int, error) {
	groups := strings.Split(os.Getenv(cgroupVar), ":")
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(g, "cgroup.procs"), []byte("0"), 0); err != nil {
			return 1, err
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return 1, fmt.Errorf("mount /proc: %w", err)
	}
	os.Setenv(stageVar, "inner")
	inner, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWCGROUP},
	})
	if err != nil {
		return 1, err
	}
	// The cgroups are the root of the inner's cgroup namespace by now. A v2 cgroup with
	// processes in it cannot give controllers to its children, so both move to leaves.
	if len(groups) == 1 {
		if err := enterLeaf(groups[0], "init"); err != nil {
			return 1, err
		}
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == inner.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == inner.Pid && status.Signaled():
			return 1, fmt.Errorf("ended by signal %v", status.Signal())
		}
	}
}

func enterLeaf(group, name string) error {
	leaf := filepath.Join(group, name)
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0)
}
