package image

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/erofs"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/seal"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/tree"
)

// TreeKind is the form in which trees are kept here: EROFS images where this kernel can
// mount them with the objects below, sealed if it can check them as well, else directories. The
// answer holds for the file system of the store until the next boot, which may bring another kernel, and is
// remembered that long.
func (l *Library) TreeKind() (store.TreeKind, error) {
	if nest.Inside() { // the kernel mounts images of disks for root of the host alone
		return store.Dir, nil
	}
	if kind, ok := kindOf(l.kind); ok {
		return kind, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(l.root, &st); err != nil {
		return 0, errs.Wrap("find out how to keep trees in", l.root, err)
	}
	on := " " + strconv.FormatUint(st.Dev, 10) // the store may be moved to another file system
	memory := filepath.Join(l.run, "tree-kind")
	b, _ := disk.Read(memory)
	if name, known := strings.CutSuffix(string(b), on); known {
		if kind, ok := kindOf(name); ok {
			return kind, nil
		}
	}
	answer, err := bestKind(l.root)
	if err != nil {
		return 0, errs.Wrap("find out how to keep trees", "", err)
	}
	if err := os.MkdirAll(l.run, 0o711); err == nil {
		// Not being able to remember only costs asking again.
		_ = disk.WriteFile(memory, []byte(answer.String()+on), 0o644, disk.Volatile)
	}
	return answer, nil
}

func kindOf(name string) (store.TreeKind, bool) {
	for _, k := range []store.TreeKind{store.EROFS, store.Dir, store.Sealed} {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

// bestKind tries the kinds, the best first.
func bestKind(dir string) (store.TreeKind, error) {
	for _, k := range []store.TreeKind{store.Sealed, store.EROFS} {
		if can, err := canMountTrees(dir, k); can || err != nil {
			return k, err
		}
	}
	return store.Dir, nil
}

// canMountTrees tries: an EROFS image of one file, kept in dir, whose content is an object
// in a data-only layer (Linux 6.5), and of the kind Sealed has to have its seal (6.6). An error
// means that it could not be found out.
func canMountTrees(dir string, kind store.TreeKind) (bool, error) {
	dir, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	const text = "an object"
	sum := oci.FromBytes([]byte(text))
	object := filepath.Join(dir, "objects", sum.Hex()[:2], sum.Hex()[2:])
	if err := os.MkdirAll(filepath.Dir(object), 0o700); err != nil {
		return false, err
	}
	if err := os.WriteFile(object, []byte(text), 0o600); err != nil {
		return false, err
	}
	opt, overlay := erofs.Options{}, [][2]string{{"metacopy", "on"}, {"redirect_dir", "on"}}
	if kind == store.Sealed {
		s, err := seal.File(object)
		if err != nil {
			return false, inconclusive(err)
		}
		opt.Verity = func(oci.Digest) ([32]byte, bool) { return s, true }
		overlay = append(overlay, [2]string{"verity", "require"})
	}
	image := filepath.Join(dir, "image")
	f, err := os.Create(image)
	if err != nil {
		return false, err
	}
	_, err = erofs.Write(f, &tree.Tree{Entries: []tree.Entry{
		{Type: tree.Dir, Mode: 0o755},
		{Path: "file", Type: tree.Regular, Mode: 0o644, Size: int64(len(text)), Object: sum},
	}}, opt)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if kind == store.Sealed {
		if _, err := seal.File(image); err != nil {
			return false, inconclusive(err)
		}
	}
	got, err := readThrough(dir, overlay)
	return err == nil && got == text, inconclusive(err)
}

// inconclusive returns errors that say nothing about what the kernel can do.
func inconclusive(err error) error {
	for _, e := range []error{unix.ENOMEM, unix.ENOSPC, unix.EMFILE, unix.ENFILE, unix.EIO, unix.EINTR} {
		if errors.Is(err, e) {
			return err
		}
	}
	return nil
}

// readThrough reads "file" of the EROFS "image" over "objects", all in dir, with options of the overlay. Before Linux
// 6.15 an overlay's layers must be mounted somewhere, so it is done in a mount namespace that
// ends with the thread that it is made for.
func readThrough(dir string, overlay [][2]string) (content string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread is of no use to others
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = unix.Chdir(dir); err == nil { // a path may have what separates layers
			content, err = readMounted(overlay)
		}
	}()
	<-done
	return content, err
}

func readMounted(overlay [][2]string) (string, error) {
	const image, at = "image", "mount"
	treeFD, err := newMount("erofs", [2]string{"source", image})
	if errors.Is(err, unix.ENOTBLK) { // before Linux 6.12
		loop, lerr := kernel.AttachLoop(image)
		if lerr != nil {
			return "", lerr
		}
		defer loop.Close()
		treeFD, err = newMount("erofs", [2]string{"source", loop.Path()})
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(treeFD)
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", err
	}
	if err := unix.MoveMount(treeFD, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", err
	}
	rootFD, err := newMount("overlay", append(overlay, [2]string{"lowerdir", at + "::objects"})...)
	if err != nil {
		return "", err
	}
	defer unix.Close(rootFD)
	fd, err := unix.Openat(rootFD, "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	return string(b[:max(n, 0)]), err
}

// newMount makes a detached, read-only mount of a new file system.
func newMount(fstype string, options ...[2]string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return -1, err
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}
