package probe

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

func storage() []feature {
	return []feature{
		{"state folder", "keeps images and containers", "nothing can be kept",
			"a folder on a local file system that this user may write to: --root, CORTEN_ROOT", needed, stateFolder},
		{"run folder", "keeps what a reboot should forget, such as locks", "no container starts",
			"a folder that this user may write to: --run, CORTEN_RUN", needed, runFolder},
		{"free space", "takes images and what containers write", "pulls and containers may end for want of room",
			"corten rmi, a larger disk, or a state folder elsewhere: --root", used, freeSpace},
		{"fs-verity", "has the kernel check every read of an image's files", "nobody notices that a file was changed on the disk",
			"Linux 6.6, CONFIG_FS_VERITY, and a file system made for it: tune2fs -O verity on ext4, btrfs", used, verity},
		{"reflink", "copies files without copying their bytes", "copies on the state folder's file system take time and room",
			"xfs (mkfs.xfs -m reflink=1) or btrfs for the state folder", used, reflink},
		{"O_TMPFILE", "writes files that vanish with a killed writer", "a killed writer leaves a file that the next command removes",
			"ext4, xfs, btrfs, tmpfs, overlayfs (Linux 6.1)", used, tmpfile},
		{"project quotas", "limits what a container may write to disk", "--storage-opt size is refused",
			"ext4 made with -O quota,project or xfs, mounted with prjquota; CONFIG_QUOTA, CONFIG_XFS_QUOTA; Linux 5.14 to ask", used, projectQuota},
		{"discard", "gives freed blocks back to the disk below", "the image of a virtual machine or a thin volume grows and never shrinks",
			"a disk that can discard; mount option discard, or fstrim now and then", used, discard},
	}
}

// mount is one line of the mount table.
type mount struct {
	id      uint64
	fstype  string
	source  string
	options string // of the mount and of the file system
}

// readMounts reads the mount table, proc_pid_mountinfo(5).
func readMounts() ([]mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []mount
	for l := range strings.Lines(string(b)) {
		left, right, ok := strings.Cut(l, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		id, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			continue
		}
		out = append(out, mount{id, g[0], g[1], f[5] + "," + g[2]})
	}
	return out, nil
}

// mountOf is the mount that a folder is on.
func (h *host) mountOf(dir string) (mount, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &st); err != nil {
		return mount{}, err
	}
	all, err := h.mounted()
	if err != nil {
		return mount{}, err
	}
	for _, m := range all {
		if st.Mask&unix.STATX_MNT_ID != 0 && m.id == st.Mnt_id { // Linux 5.8
			return m, nil
		}
	}
	return mount{}, unix.ENOENT
}

// FileSystem is the type of the file system that a folder is on, or would be.
func FileSystem(dir string) (string, error) {
	m, err := newHost(Env{}).mountOf(nearest(dir))
	return m.fstype, err
}

// stateFolder writes a file.
func stateFolder(h *host) finding {
	dir, err := h.sub("state")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	}
	switch errno(err) {
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return no("writing to " + h.stateDir() + ": " + words(err))
	}
	f := judge(err)
	if f.answer != Yes {
		return f
	}
	return yes(h.place(h.env.Root))
}

func runFolder(h *host) finding {
	dir := nearest(h.env.Run)
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return no("writing to " + dir + ": " + words(err))
	}
	return yes(h.place(h.env.Run))
}

// place is a folder with the type of its file system.
func (h *host) place(dir string) string {
	m, err := h.mountOf(nearest(dir))
	if err != nil {
		return dir
	}
	return dir + " on " + m.fstype
}

// Least room that lets a small image be pulled and started.
const (
	leastBytes  = 1 << 30
	leastInodes = 20_000
)

func freeSpace(h *host) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(h.stateDir(), &st); err != nil {
		return judge(err)
	}
	left := uint64(st.Bavail) * uint64(st.Bsize)
	text := size(left) + " of " + size(st.Blocks*uint64(st.Bsize)) + " free"
	if st.Files != 0 {
		text += ", " + strconv.FormatUint(st.Ffree, 10) + " of " + strconv.FormatUint(st.Files, 10) + " inodes"
	}
	if left < leastBytes || st.Files != 0 && st.Ffree < leastInodes {
		return no(text)
	}
	return yes(text)
}

// size writes bytes for people.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return strconv.FormatUint(n, 10) + " B"
	}
	i, f := 0, float64(n)/(1<<10)
	for ; f >= 1<<10 && i < len(units)-1; i++ {
		f /= 1 << 10
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i:i+1] + "iB"
}

// file makes a file with some bytes in the probes' folder.
func (h *host) file(name string) (string, error) {
	dir, err := h.folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, make([]byte, 4096), 0o600)
}

func verity(h *host) finding {
	path, err := h.file("verity")
	if err != nil {
		return unready(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return judge(err)
	}
	defer f.Close()
	err = kernel.EnableVerity(int(f.Fd()))
	switch errno(err) {
	case unix.EOPNOTSUPP, unix.ENOTTY:
		return no("the kernel or the file system has none: " + words(err))
	}
	if err != nil {
		return judge(err)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return judge(err)
	}
	defer unix.Close(fs)
	if unix.FsconfigSetString(fs, "verity", "require") != nil {
		return no("overlayfs of this kernel compares no seals")
	}
	return yes("")
}

func reflink(h *host) finding {
	from, err := h.file("from")
	if err != nil {
		return unready(err)
	}
	a, err := os.Open(from)
	if err != nil {
		return judge(err)
	}
	defer a.Close()
	b, err := os.Create(from + "-copy")
	if err != nil {
		return judge(err)
	}
	defer b.Close()
	return judge(unix.IoctlFileClone(int(b.Fd()), int(a.Fd())))
}

func tmpfile(h *host) finding {
	dir, err := h.folder()
	if err != nil {
		return unready(err)
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return judge(err)
}

func projectQuota(h *host) finding {
	const enforced = 1 << 5 // FS_QUOTA_PDQ_ENFD, <linux/dqblk_xfs.h>
	fd, err := unix.Open(h.stateDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return judge(err)
	}
	defer unix.Close(fd)
	flags, err := kernel.QuotaFlags(fd)
	switch {
	case errno(err) == unix.ENOSYS:
		return no("the file system has none, or none is switched on")
	case err != nil:
		return judge(err)
	case flags&enforced == 0:
		return no("not switched on")
	}
	return yes("")
}

// discard asks the disk that the state folder's file system is on.
func discard(h *host) finding {
	m, err := h.mountOf(h.stateDir())
	if err != nil {
		return unknown("the file system's mount is not known")
	}
	dev, ok := h.disk(m)
	if !ok {
		return unknown(m.fstype + " on " + m.source + " names no disk")
	}
	sys := "/sys/dev/block/" + strconv.Itoa(int(unix.Major(dev))) + ":" + strconv.Itoa(int(unix.Minor(dev)))
	for _, queue := range []string{"/queue", "/../queue"} { // of a disk; of a partition's disk
		n, err := line(sys + queue + "/discard_max_bytes")
		switch {
		case err != nil:
			continue
		case n == "0":
			return no("the disk cannot")
		case hasOption(m.options, "discard"):
			return yes("at once")
		}
		return yes("by fstrim")
	}
	return unknown("the kernel does not tell of " + m.source)
}

// disk is the block device that the state folder's files are on. Of a file system that may
// have several (btrfs) it is the one that the mount names.
func (h *host) disk(m mount) (dev uint64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(h.stateDir(), &st) == nil && unix.Major(st.Dev) != 0 {
		return st.Dev, true
	}
	if strings.HasPrefix(m.source, "/dev/") && unix.Stat(m.source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return st.Rdev, true
	}
	return 0, false
}

func hasOption(options, name string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if n, _, _ := strings.Cut(o, "="); n == name {
			return true
		}
	}
	return false
}
