package probe

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

func mounts() []feature {
	return []feature{
		{"new mount API", "makes mounts that no path leads to until the container has them (fsopen, fsmount, open_tree)", "no container starts",
			"Linux 5.2; a seccomp filter around Corten must let it pass", needed, newMounts},
		{"move_mount", "puts such mounts in place", "no container starts", "Linux 5.2", needed, moveMount},
		{"idmapped mounts", "shows files on the state folder's file system with a container's own ids, without copying or chown", "containers with a user namespace do not start",
			"a state folder on ext4, xfs or btrfs (Linux 5.12 to 5.15) or another file system that can", needed, idmapped},
		{"overlay", "puts a writable layer over an image", "no container starts", "CONFIG_OVERLAY_FS, module overlay", needed, overlay},
		{"overlay on idmapped layers", "shares an image among containers that have ids of their own", "containers with a user namespace do not start",
			"Linux 5.19; a state folder on a local file system with extended attributes", needed, overlayShifted},
		{"overlay on detached layers", "makes a container's root of parts that are mounted nowhere", "each start mounts them in a namespace of their own, which takes longer",
			"Linux 6.15", used, overlayDetached},
		{"overlay data-only layers", "keeps each file once, however many images have it (with metacopy and redirect_dir)", "each image is unpacked to a directory of its own",
			"Linux 6.5", used, overlayData},
		{"EROFS from a file", "mounts an image's tree straight from its file", "trees are mounted through loop devices",
			"CONFIG_EROFS_FS and CONFIG_EROFS_FS_BACKED_BY_FILE (Linux 6.12), module erofs", used, erofsFile},
		{"EROFS from a loop device", "mounts an image's tree", "trees are mounted from files only; without that too, images are unpacked to directories and the host's root cannot be a container's",
			"CONFIG_EROFS_FS and CONFIG_BLK_DEV_LOOP, modules erofs and loop", used, erofsLoop},
		{"idmapped tmpfs", "shows files in memory with a container's own ids", "secrets and shared folders in memory belong to nobody in a container",
			"Linux 6.3", used, tmpfsShifted},
		{"statmount", "reads one mount without reading the whole table (with listmount)", "the mount table is read as text",
			"Linux 6.8", later, statMount},
	}
}

// newFS makes a detached mount; options are "NAME" or "NAME=VALUE".
func newFS(fstype string, options ...string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		if name, value, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, name, value)
		} else {
			err = unix.FsconfigSetFlag(fs, o)
		}
		if err != nil {
			return -1, withLog(fs, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, withLog(fs, err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// withLog adds the first thing that the kernel wrote about a refusal, fsopen(2): a letter,
// a space and a text.
func withLog(fs int, err error) error {
	var b [256]byte
	if n, _ := unix.Read(fs, b[:]); n > 2 {
		return &refusal{err, strings.TrimSpace(string(b[2:n]))}
	}
	return err
}

// refusal is an error with the kernel's own words.
type refusal struct {
	err  error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.err }

// clone is a detached copy of the mount at path, from there down.
func clone(path string) (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

func newMounts(h *host) finding {
	fd, err := newFS("tmpfs", "size=4096")
	if err != nil {
		return h.judge(err)
	}
	unix.Close(fd)
	fd, err = clone("/")
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	return h.judge(unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
}

// moveMount mounts in a mount namespace that ends with its thread. Its mounts are private
// before anything is mounted, or the mount would show on the host.
func moveMount(h *host) finding {
	dir, err := h.sub("move")
	if err != nil {
		return unready(err)
	}
	return apart(func() finding {
		if err := hideMounts(); err != nil {
			return h.judge(err)
		}
		fd, err := newFS("tmpfs", "size=4096")
		if err != nil {
			return h.judge(err)
		}
		defer unix.Close(fd)
		return h.judge(attach(fd, dir))
	})
}

// hideMounts gives the thread a mount namespace of its own.
func hideMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

func attach(mnt int, dir string) error {
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// idmapped looks whether a file that is root's is somebody else's through the mount.
func idmapped(h *host) finding {
	dir, err := h.sub("idmap")
	if err != nil {
		return unready(err)
	}
	fd, err := clone(dir)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	return h.shifted(fd)
}

// shifted shifts a detached mount whose root is root's.
func (h *host) shifted(mnt int) finding {
	if err := h.shift(mnt); err != nil {
		if errno(err) == unix.EINVAL {
			return no("this file system cannot")
		}
		return h.judge(err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(mnt, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return h.judge(err)
	}
	if st.Uid != shiftedID || st.Gid != shiftedID {
		return no("the owners stayed as they were")
	}
	return yes("")
}

// overlay opens the file system, which loads its module. Who may not, looks at the list of
// file systems, which does not name modules that are not loaded.
func overlay(h *host) finding {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err == nil {
		unix.Close(fd)
		return yes("")
	}
	list, lerr := os.ReadFile("/proc/filesystems")
	if lerr == nil && strings.Contains(string(list), "\toverlay\n") {
		return yes("")
	}
	return h.judge(err)
}

// layers are the folders of an overlay: "lower" holds a file, "upper" and "work" are in one
// folder, as they are in a container's.
func (h *host) layers(name string) (dir string, err error) {
	dir, err = h.folder()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, name)
	for _, d := range []string{"lower", "layer/upper", "layer/work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, "lower/file"), []byte("below"), 0o644)
}

func overlayDetached(h *host) finding {
	dir, err := h.layers("detached")
	if err != nil {
		return unready(err)
	}
	return h.overlayOn(dir, func(int, string) error { return nil })
}

// overlayShifted attaches the layers in a mount namespace, since not every kernel that
// takes shifted layers takes detached ones.
func overlayShifted(h *host) finding {
	dir, err := h.layers("shifted")
	if err != nil {
		return unready(err)
	}
	// The overlay makes its files as who makes the overlay: as the container's root, who
	// keeps all capabilities. Both are the thread's.
	return apart(func() finding {
		const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP, <linux/securebits.h>
		if err := hideMounts(); err != nil {
			return h.judge(err)
		}
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noSetuidFixup, 0, 0, 0); err != nil {
			return h.judge(err)
		}
		if err := errors.Join(unix.Setfsgid(shiftedID), unix.Setfsuid(shiftedID)); err != nil {
			return h.judge(err)
		}
		return h.overlayOn(dir, func(mnt int, path string) error {
			if err := h.shift(mnt); err != nil {
				return err
			}
			return attach(mnt, path)
		})
	})
}

// overlayOn makes an overlay of clones, given by their descriptors, and writes to a file of
// the lower one through it.
func (h *host) overlayOn(dir string, prepare func(mnt int, path string) error) finding {
	paths := make([]string, 0, 2)
	for _, name := range []string{"lower", "layer"} {
		path := filepath.Join(dir, name)
		fd, err := clone(path)
		if err != nil {
			return h.judge(err)
		}
		defer unix.Close(fd)
		if err := prepare(fd, path); err != nil {
			return unready(err)
		}
		paths = append(paths, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	mnt, err := newFS("overlay", "lowerdir="+paths[0], "upperdir="+paths[1]+"/upper", "workdir="+paths[1]+"/work")
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, "file", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("above"))
	return h.judge(err)
}

// overlayData reads a file that has its name in one layer and its bytes, under another
// name, in a layer for data only.
func overlayData(h *host) finding {
	const text = "an object"
	meta, err := h.sub("data", "meta")
	if err != nil {
		return unready(err)
	}
	data, err := h.sub("data", "objects")
	if err != nil {
		return unready(err)
	}
	file := filepath.Join(meta, "file")
	if err := errors.Join(
		os.WriteFile(filepath.Join(data, "object"), []byte(text), 0o644),
		os.WriteFile(file, nil, 0o644),
		os.Truncate(file, int64(len(text))),
		unix.Setxattr(file, "trusted.overlay.metacopy", nil, 0),
		unix.Setxattr(file, "trusted.overlay.redirect", []byte("/object"), 0),
	); err != nil {
		return h.judge(err)
	}
	mnt, err := newFS("overlay", "ro", "metacopy=on", "redirect_dir=on", "lowerdir="+meta+"::"+data)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return h.judge(err)
	}
	if string(b[:n]) != text {
		return no("the file reads as something else")
	}
	return yes("")
}

// erofsImage is an EROFS image of an empty directory (fs/erofs/erofs_fs.h): one block, the
// superblock at 1024 and the root inode behind it, its names inline.
func erofsImage() []byte {
	const (
		block = 4096
		super = 1024
		root  = super + 128
		names = root + 32
	)
	b := make([]byte, block)
	le := binary.LittleEndian
	le.PutUint32(b[super:], unix.EROFS_SUPER_MAGIC_V1)
	b[super+12] = 12                    // log2 of the block's size
	le.PutUint16(b[super+14:], root/32) // number of the root inode
	le.PutUint64(b[super+16:], 1)       // inodes
	le.PutUint32(b[super+36:], 1)       // blocks
	le.PutUint16(b[root:], 2<<1)        // compact, data inline
	le.PutUint16(b[root+4:], unix.S_IFDIR|0o755)
	le.PutUint16(b[root+6:], 2) // links
	le.PutUint32(b[root+8:], 2*12+3)
	for i, at := range []uint16{24, 25} { // "." and ".." lead to the root
		e := b[names+12*i:]
		le.PutUint64(e, root/32)
		le.PutUint16(e[8:], at)
		e[10] = 2 // a directory
	}
	copy(b[names+24:], "...")
	return b
}

// erofsMount mounts the image and looks into it.
func (h *host) erofsMount(source string) finding {
	mnt, err := newFS("erofs", "ro", "source="+source)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	var b [256]byte
	_, err = unix.ReadDirent(fd, b[:])
	return h.judge(err)
}

func (h *host) erofsFile(name string) (string, error) {
	dir, err := h.sub("erofs")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, erofsImage(), 0o600)
}

func erofsFile(h *host) finding {
	file, err := h.erofsFile("file")
	if err != nil {
		return unready(err)
	}
	f := h.erofsMount(file)
	if f.answer == No && erofsLoop(h).answer == Yes {
		return f.or("loop devices")
	}
	return f
}

func erofsLoop(h *host) finding {
	file, err := h.erofsFile("loop")
	if err != nil {
		return unready(err)
	}
	loop, err := kernel.AttachLoop(file)
	if err != nil {
		return h.judge(err)
	}
	defer loop.Close()
	return h.erofsMount(loop.Path())
}

func tmpfsShifted(h *host) finding {
	fd, err := newFS("tmpfs", "size=4096")
	if err != nil {
		return h.judge(err)
	}
	defer unix.Close(fd)
	return h.shifted(fd)
}

func statMount(*host) finding {
	n, id, err := kernel.ListMounts()
	if err != nil {
		return judge(err)
	}
	if n == 0 {
		return unknown("nothing is mounted below this process's root")
	}
	return judge(kernel.StatMount(id))
}
