package stage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountViews gives the inner stage cgroups whose root is the run's, and its own view of the
// places where peers leave things whatever their options say: /run, an empty one, and /etc
// and /var/lib, in which writes go to the run's folder.
func mountViews(version int, dir string) error {
	for i, at := range []string{"/etc", "/var/lib"} {
		upper, work := filepath.Join(dir, fmt.Sprint("upper", i)), filepath.Join(dir, fmt.Sprint("work", i))
		if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
			return err
		}
		if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+at+",upperdir="+upper+",workdir="+work); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", at, err)
		}
	}
	// resolv.conf may be a link into /run.
	resolver, _ := os.ReadFile("/etc/resolv.conf")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if to, err := os.Readlink("/etc/resolv.conf"); err == nil && strings.Contains(to, "/run/") {
		to = to[strings.Index(to, "/run/"):]
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, resolver, 0o644)); err != nil {
			return err
		}
	}
	return mountCgroups(version)
}

func mountCgroups(version int) error {
	const root = "/sys/fs/cgroup"
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if version == 2 {
		if err := unix.Mount("cgroup2", root, "cgroup2", flags, ""); err != nil {
			return fmt.Errorf("mount cgroup2: %w", err)
		}
		return enterLeaf(root, "bench")
	}
	// Version 1 alone: crun refuses a hybrid whose v2 part has a controller.
	if err := unix.Mount("tmpfs", root, "tmpfs", flags, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] == "" {
			continue
		}
		at, data := filepath.Join(root, strings.TrimPrefix(f[1], "name=")), f[1]
		if strings.HasPrefix(f[1], "name=") {
			data = "none," + f[1]
		}
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", at, "cgroup", flags, data); err != nil {
			return fmt.Errorf("mount cgroup %s: %w", f[1], err)
		}
	}
	return nil
}
