package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/rootfs"
)

// Of an ordinary user the kernel lays nothing over the host's root. So his containers have a root of
// their own, almost empty, in which the directories that hold the host's programs are mounted
// read-only: nothing has to be hidden that is not in these.

// shown are those directories. What is a link on the host is one here.
func shown() []string {
	return []string{"/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/opt", "/sbin", "/usr"}
}

// HostOfUser is Host for an ordinary user: Mask is a directory with the rest of the root.
func HostOfUser(dir, list string, dry bool, state ...string) (Base, error) {
	in, err := look(list, state)
	if err != nil {
		return Base{}, err
	}
	b, links, files := Base{}, map[string]string{}, []string{}
	key := sha256.New()
	for _, path := range shown() {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if to, err := os.Readlink(path); err == nil {
			links[path] = to
			key.Write([]byte(path + " " + to + "\n"))
		} else if info.IsDir() {
			b.Binds = append(b.Binds, rootfs.Bind{Path: path, Hide: in.hiddenIn(path)})
			key.Write([]byte(path + "\n"))
		}
	}
	for _, name := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} { // a container's own may be mounted where they lead
		if to, err := os.Readlink(name); err == nil {
			if !filepath.IsAbs(to) {
				to = filepath.Join("/etc", to)
			}
			files = append(files, filepath.Clean(to))
			key.Write([]byte(files[len(files)-1] + "\n"))
		}
	}
	b.Mask = filepath.Join(dir, "root-"+hex.EncodeToString(key.Sum(nil)[:12]))
	if _, err := os.Stat(b.Mask); err == nil || dry {
		return b, nil
	}
	return b, errs.Wrap("make root for", "the host's programs", makeRoot(b, links, files))
}

// hiddenIn is what is hidden below a directory.
func (f facts) hiddenIn(dir string) (paths []string) {
	for _, p := range f.hide {
		if strings.HasPrefix(p.path, dir+"/") {
			paths = append(paths, p.path)
		}
	}
	return paths
}

// makeRoot makes the directory, which appears whole.
func makeRoot(b Base, links map[string]string, files []string) error {
	path := b.Mask
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, mode := range map[string]uint32{"": 0o755, "/dev": 0o755, "/proc": 0o755, "/root": 0o700, "/run": 0o755, "/sys": 0o755, "/tmp": 0o1777, "/var": 0o755, "/var/tmp": 0o1777} {
		if err := os.MkdirAll(tmp+name, 0o755); err != nil {
			return err
		}
		if err := unix.Chmod(tmp+name, mode); err != nil { // whatever the umask is
			return err
		}
	}
	for _, d := range b.Binds {
		if err := os.Mkdir(tmp+d.Path, 0o755); err != nil {
			return err
		}
	}
	for at, to := range links {
		if err := os.Symlink(to, tmp+at); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(tmp+f), 0o755), os.WriteFile(tmp+f, nil, 0o644)); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, path)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) { // somebody else was faster
		return nil
	}
	return err
}
