package draft

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// relabelSources gives what is mounted with z or Z the SELinux label of the container's files, at each
// start. Without such a label there is nothing to give: Docker passes over it, too.
func (d *Draft) relabelSources() error {
	label := d.Spec.Security.SELinuxMount
	if label == "" {
		return nil
	}
	for i, m := range d.Spec.Mounts {
		if m.Relabel == "" {
			continue
		}
		if err := relabel(d.sources[i].Path, labelFor(m.Relabel, label)); err != nil {
			return errs.Wrap("label for SELinux", d.sources[i].Path, err)
		}
	}
	return nil
}

// labelFor is the label of files that all containers share, without categories, or of this one alone.
func labelFor(how spec.Relabel, label string) string {
	parts := strings.SplitN(label, ":", 4)
	if how == spec.RelabelPrivate || len(parts) < 4 {
		return label
	}
	level, _, _ := strings.Cut(parts[3], ":")
	return strings.Join(append(parts[:3:3], level), ":")
}

// relabel labels a file, or a folder and all in it. The tree may be another container's to change
// meanwhile, so each step is taken from an open folder, and no link is followed.
func relabel(path, label string) error {
	full, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if own := []string{"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var"}; slices.Contains(own, full) {
		return errs.Newf(errs.Denied, "", "", "the host would not work with other labels there").WithHint("leave z and Z out, or mount a folder below it")
	}
	fd, err := unix.Open(full, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return relabelOpen(fd, label)
}

func relabelOpen(fd int, label string) error {
	self := "/proc/self/fd/" + strconv.Itoa(fd) // of a link it is the link itself
	if err := unix.Setxattr(self, "security.selinux", []byte(label), 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	list, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(list), "folder")
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, name := range names {
		child, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT { // removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		err = relabelOpen(child, label)
		unix.Close(child)
		if err != nil {
			return errs.Wrap("", name, err)
		}
	}
	return nil
}
