package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WriteRootFS applies the layers to dir, one after the other, as the image specification's
// layer.md says: the plain way that clever ways are compared with. It needs root, and trusts
// the layers: they are our own.
func (i Image) WriteRootFS(t T, dir string) {
	t.Helper()
	must(t, "make root", os.MkdirAll(dir, 0o755))
	dirs := map[string]time.Time{} // set last: making an entry touches its directory
	for _, b := range i.layers {
		must(t, "apply layer", b.apply(dir, dirs))
	}
	for path, at := range dirs {
		if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
			must(t, "set time", os.Chtimes(path, at, at))
		}
	}
}

func (b blob) apply(root string, dirs map[string]time.Time) error {
	r, err := b.uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	made := map[string]bool{} // by this layer: its opaque whiteouts must spare them
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(root, h.Name)
		if name, ok := strings.CutPrefix(filepath.Base(path), ".wh."); ok {
			err = whiteout(filepath.Dir(path), name, made)
		} else {
			made[path] = true
			err = place(root, path, h, tr, dirs)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func whiteout(dir, name string, made map[string]bool) error {
	if name != ".wh..opq" {
		return os.RemoveAll(filepath.Join(dir, name))
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if made[path] {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return err
}

// place makes one entry, in place of whatever a lower layer had there.
func place(root, path string, h *tar.Header, body io.Reader, dirs map[string]time.Time) error {
	if fi, err := os.Lstat(path); err == nil && !(fi.IsDir() && h.Typeflag == tar.TypeDir) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return os.Link(filepath.Join(root, h.Linkname), path)
	}
	if err := create(path, h, body); err != nil {
		return err
	}
	if err := os.Lchown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink { // after chown, which clears setuid and capabilities
		if err := unix.Chmod(path, uint32(h.Mode)&0o7777); err != nil {
			return err
		}
	}
	for k, v := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(k, paxXattr); ok {
			if err := unix.Lsetxattr(path, attr, []byte(v), 0); err != nil {
				return err
			}
		}
	}
	if h.Typeflag == tar.TypeDir {
		dirs[path] = h.ModTime
	}
	ts := []unix.Timespec{unix.NsecToTimespec(h.ModTime.UnixNano()), unix.NsecToTimespec(h.ModTime.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func create(path string, h *tar.Header, body io.Reader) error {
	dev := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	case tar.TypeChar:
		return unix.Mknod(path, unix.S_IFCHR, dev)
	case tar.TypeBlock:
		return unix.Mknod(path, unix.S_IFBLK, dev)
	case tar.TypeFifo:
		return unix.Mkfifo(path, 0o600)
	case tar.TypeReg, tar.TypeGNUSparse:
		return writeSparse(path, body, h.Size)
	}
	return fmt.Errorf("entry of unknown type %q", h.Typeflag)
}

// writeSparse copies body to a new file and leaves holes for blocks of zeros.
func writeSparse(path string, body io.Reader, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		n, err := io.ReadFull(body, buf[:min(int64(len(buf)), size-at)])
		if err != nil {
			return err
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return f.Truncate(size)
}
