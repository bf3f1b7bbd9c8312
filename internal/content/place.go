package content

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
)

// place is where paths are looked up: in a container, or on the host.
type place struct {
	at      int    // a directory, or AT_FDCWD
	resolve uint64 // how its paths are resolved, openat2(2)
}

// host is where the user's own paths are looked up.
func host() place { return place{at: unix.AT_FDCWD} }

// open opens a path of the place.
func (p place) open(name string, flags int) (int, error) {
	if p.at != unix.AT_FDCWD {
		if name = strings.TrimLeft(name, "/"); name == "" {
			name = "."
		}
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: p.resolve}
	return kernel.OpenAt2(p.at, name, how)
}

// below opens what a name of a directory is, whatever it is, without following it.
func below(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// self is a path that leads to an open file and nowhere else, for calls that take no
// descriptor made with O_PATH.
func self(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// folder opens for reading a directory that is open with O_PATH.
func folder(fd int) (*os.File, error) {
	d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(d), "directory"), nil
}

// kindOf is the type of an open file: its bits of S_IFMT.
func kindOf(fd int) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Mode & unix.S_IFMT, err
}

// source is what is to be copied.
type source struct {
	fd       int // O_PATH
	dir      bool
	contents bool   // what is in the directory, not the directory itself
	name     string // its last name, as the user wrote it; empty for a root
}

// source finds what the user wants copied. A symlink is copied itself unless follow is set
// or the path ends with a slash.
func (p place) source(name string, follow bool) (source, error) {
	s := source{contents: name == "." || strings.HasSuffix(name, "/."), name: path.Base(path.Clean("/" + name))}
	if s.name == "/" {
		s.name, s.contents = "", true
	}
	flags := unix.O_PATH
	if !follow && !s.contents && !strings.HasSuffix(name, "/") {
		flags |= unix.O_NOFOLLOW
	}
	var err error
	if s.fd, err = p.open(name, flags); err != nil {
		return s, err
	}
	kind, err := kindOf(s.fd)
	s.dir = kind == unix.S_IFDIR
	if err == nil && !s.dir && (s.contents || strings.HasSuffix(name, "/")) {
		err = unix.ENOTDIR
	}
	if err != nil {
		_ = unix.Close(s.fd)
	}
	return s, err
}

// tarName is what it is called in a tar.
func (s source) tarName() string {
	if s.contents {
		return ""
	}
	return s.name
}

// target is where something is to be copied to: a directory and the name that it gets
// there; an empty name stands for the directory's own content.
type target struct {
	dir  int // O_PATH
	name string
}

const maxLinks = 40 // as the kernel has it, path_resolution(7)

// target finds out where s goes if the user says name, by Docker's rules: into a directory
// that exists, else in the place of a file or of what does not exist yet. A symlink is
// followed.
func (p place) target(name string, s source) (target, error) {
	slash := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || name == "."
	for range maxLinks {
		fd, err := p.open(name, unix.O_PATH|unix.O_DIRECTORY)
		switch {
		case err == nil && s.contents:
			return target{dir: fd}, nil
		case err == nil:
			return target{fd, s.name}, nil
		case err != unix.ENOENT && err != unix.ENOTDIR:
			return target{}, err
		case slash && (err == unix.ENOTDIR || !s.dir):
			return target{}, errs.New(errs.NotFound, "", "", err).WithHint("make the directory first, or leave out the slash at the end")
		}
		trimmed := strings.TrimRight(name, "/")
		parent, last := path.Split(trimmed)
		if parent == "" {
			parent = "."
		}
		dir, err := p.open(parent, unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			return target{}, errs.New(errs.NotFound, "", "", err).WithHint("make the directory " + parent + " first")
		}
		if err != nil {
			return target{}, err
		}
		link, err := readLink(dir, last)
		if err == nil && link != "" { // to a file, or to nothing
			_ = unix.Close(dir)
			if name = link; !path.IsAbs(link) {
				name = parent + "/" + link
			}
			continue
		}
		if err == nil && s.dir {
			err = refuseFile(dir, last)
		}
		if err != nil {
			_ = unix.Close(dir)
			return target{}, err
		}
		return target{dir, last}, nil
	}
	return target{}, unix.ELOOP
}

// refuseFile refuses a directory in the place of a file that exists.
func refuseFile(dir int, name string) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil
	}
	return errs.New(errs.Exists, "", "", unix.ENOTDIR).WithHint("a directory cannot be copied over a file: remove the file, or name another place")
}

// readLink is the target of the symlink name; empty if it is none or does not exist.
func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	switch err {
	case nil:
		return string(buf[:n]), nil
	case unix.EINVAL, unix.ENOENT:
		return "", nil
	}
	return "", err
}
