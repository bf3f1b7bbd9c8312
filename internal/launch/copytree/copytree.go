// Package copytree copies the content of one directory into another: files, folders, links, owners,
// modes, times and the attributes that a volume can hold. Both are open directories, and what is in them
// is found by descriptors and never followed anywhere else.
package copytree

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Copy copies what is in the directory src to the directory dst.
func Copy(src, dst int) error {
	c := copier{links: map[inode]string{}, top: dst}
	return c.dir(src, dst, "")
}

// copier copies a tree of files. links remembers where a file of several names went first.
type copier struct {
	links map[inode]string
	top   int
}

// inode is one file; an overlay shows the numbers of several file systems.
type inode struct{ dev, ino uint64 }

func (c *copier) dir(src, dst int, path string) error {
	names, err := readNames(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(src, dst, name, path+name); err != nil {
			return errs.Wrap("copy", path+name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	return dress(src, dst, &st)
}

func readNames(fd int) ([]string, error) {
	dup, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

// entry copies one name. path is its name from the top of the volume.
func (c *copier) entry(src, dst int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		one := inode{st.Dev, st.Ino}
		if first, ok := c.links[one]; ok {
			return unix.Linkat(c.top, first, dst, name, 0)
		}
		c.links[one] = path
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name, path)
	case unix.S_IFREG:
		return c.regular(src, dst, name, &st)
	case unix.S_IFLNK:
		return symlink(src, dst, name, &st)
	case unix.S_IFIFO, unix.S_IFSOCK:
		if err := unix.Mknodat(dst, name, st.Mode, 0); err != nil {
			return err
		}
		return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil // a device: volumes are mounted without
}

func (c *copier) subdir(src, dst int, name, path string) error {
	if err := unix.Mkdirat(dst, name, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	s, err := unix.Openat(src, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	d, err := unix.Openat(dst, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	return c.dir(s, d, path+"/")
}

func (c *copier) regular(src, dst int, name string, st *unix.Stat_t) error {
	s, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(s), name)
	defer in.Close()
	d, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(d), name)
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil { // copy_file_range where the kernel can
		return err
	}
	return dress(s, d, st)
}

func symlink(src, dst int, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(src, name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil {
		return err
	}
	return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}

// dress gives a copy the owner, mode, attributes and time of its original. The owner comes
// first: a change of owner takes set-id bits and capabilities away.
func dress(src, dst int, st *unix.Stat_t) error {
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(dst), times, 0)
}

// copyXattrs copies what a volume can hold: not the overlay's own, nor labels that belong
// to the place.
func copyXattrs(src, dst int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(src, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" && !strings.HasPrefix(name, "system.posix_acl_") {
			continue
		}
		v, err := unix.Fgetxattr(src, name, value)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(dst, name, value[:v], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}
