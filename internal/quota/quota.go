// Package quota limits what may be written to directories, by the file system's project quotas.
//
// Ext4 and XFS keep a number with each file, its project, count what a project has, and can limit
// it. A directory that is to be limited is made and is empty. Its owner, a container's or a volume's
// folder, claims a number that nobody uses (projects/N, a link to that folder), the kernel is
// told the limit, and the directory becomes the project's: what is made in it is so too. When
// the folder is gone Release takes the limit and then the claim away. Whoever was killed in between has
// left a claim that leads nowhere, and who comes next takes it away.
package quota

import (
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/kernel/probe"
)

// Projects are numbered from 1,073,741,824 up: administrators count from 1, as Docker and Podman
// do, and the kubelet from 1,048,577.
const (
	first = 1 << 30
	many  = 1 << 16
)

// Check says why what is written below root, Corten's state folder, cannot be limited.
func Check(root string) error {
	const op = "limit what is written below"
	if nest.Inside() {
		return errs.Newf(errs.Unsupported, op, root, "only root of the host may set quotas").WithHint("leave the limit out, or run it as root")
	}
	f, err := os.Open(root)
	if err != nil {
		return errs.Wrap(op, root, err)
	}
	defer f.Close()
	return check(f)
}

func check(f *os.File) error {
	const enforced = 1 << 5 // FS_QUOTA_PDQ_ENFD, <linux/dqblk_xfs.h>
	flags, err := kernel.QuotaFlags(int(f.Fd()))
	if err == nil && flags&enforced != 0 {
		return nil
	}
	fstype, ferr := probe.FileSystem(f.Name())
	if ferr != nil {
		fstype = "the file system"
	}
	hint := "mount it with the option prjquota: not by a remount, and the root by the boot parameter rootflags=prjquota"
	switch fstype {
	case "ext4":
		hint = "once it has the features (tune2fs -O project,quota on the unmounted device), mount it with the option prjquota"
	case "xfs":
	default:
		hint = "keep the state folder on ext4 or XFS mounted with prjquota: --root, CORTEN_ROOT"
	}
	return errs.Newf(errs.Unsupported, "limit what is written below", f.Name(), fstype+" has no project quotas switched on").WithHint(hint)
}

// Limit has the kernel limit what is written to dirs, which are the owner's, to size bytes together.
// The owner is a folder that is there, relative to root. To limit what is limited is no
// error: each start does, for what it finds may be a copy, or mounted in another way. If less than room
// bytes are left the limit is that much higher, but never by more than 8 times that: XFS makes no
// directory with less than it might take, and who could not begin could remove nothing.
func Limit(root, owner string, dirs []string, size, room int64) error {
	if err := Check(root); err != nil {
		return err
	}
	err := os.Mkdir(filepath.Join(root, "projects"), 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return errs.Wrap("claim project for", owner, err)
	}
	l, err := open(root)
	if err != nil {
		return errs.Wrap("claim project for", owner, err)
	}
	defer l.close()
	project, err := l.claim(owner)
	if err != nil {
		return errs.Wrap("claim project for", owner, err)
	}
	u, err := kernel.Quota(l.fd(), project)
	if err != nil {
		return errs.Wrap("limit project of", owner, err)
	}
	size = max(size, min(int64(u.Used)+room, size+8*room))
	// The limit first: no byte of the project is without.
	if err := kernel.SetQuota(l.fd(), project, uint64(size)); err != nil {
		return errs.Wrap("limit project of", owner, err)
	}
	for _, dir := range dirs {
		if err := join(dir, project); err != nil {
			return err
		}
	}
	return nil
}

// join makes dir, which is empty or was made so before, a part of a project.
func join(dir string, project uint32) error {
	const op = "limit what is written to"
	f, err := os.Open(dir)
	if err != nil {
		return errs.Wrap(op, dir, err)
	}
	defer f.Close()
	if has, err := kernel.Project(int(f.Fd())); err != nil || has == project {
		return errs.Wrap(op, dir, err)
	}
	if names, _ := f.Readdirnames(1); len(names) > 0 {
		return errs.Newf(errs.Corrupt, op, dir, "what is in it is not counted: it is a copy, perhaps").
			WithHint("count it: chattr -R +P -p " + strconv.FormatUint(uint64(project), 10) + " " + dir)
	}
	return errs.Wrap(op, dir, kernel.SetProject(int(f.Fd()), project))
}

// Release takes away the limit of an owner that is gone. It may have none.
func Release(root, owner string) error {
	l, err := open(root)
	if err == nil {
		defer l.close()
		_, err = l.find(owner, true)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errs.Wrap("release project of", owner, err)
}

// Usage is what a limited directory has. A limit of 0 is none.
type Usage = kernel.ProjectQuota

// Of is what the kernel counts of the project of a directory.
func Of(dir string) (Usage, error) {
	const op = "ask for the quota of"
	f, err := os.Open(dir)
	if err != nil {
		return Usage{}, errs.Wrap(op, dir, err)
	}
	defer f.Close()
	project, err := kernel.Project(int(f.Fd()))
	if err != nil || project == 0 {
		return Usage{}, errs.Wrap(op, dir, err)
	}
	u, err := kernel.Quota(int(f.Fd()), project)
	return u, errs.Wrap(op, dir, err)
}

// ledger is the folder of claims, locked.
type ledger struct {
	root string
	file *os.File
}

func open(root string) (*ledger, error) {
	f, err := os.Open(filepath.Join(root, "projects"))
	if err != nil {
		return nil, err
	}
	if err := disk.Flock(f, disk.Exclusive); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &ledger{root, f}, nil
}

func (l *ledger) close()  { _ = l.file.Close() }
func (l *ledger) fd() int { return int(l.file.Fd()) }

func (l *ledger) path(n uint32) string {
	return filepath.Join(l.file.Name(), strconv.FormatUint(uint64(n), 10))
}

// claim finds a project for an owner, or the one that it has.
func (l *ledger) claim(owner string) (uint32, error) {
	n, err := l.find(owner, false)
	if err != nil || n != 0 {
		return n, err
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(owner))
	for i := range uint32(many) {
		n := first + (h.Sum32()+i)%many
		// Others may number as we do, such as a Corten with another state folder; and what is being
		// removed, which nobody claims any more, still counts.
		if u, err := kernel.Quota(l.fd(), n); err != nil {
			return 0, err
		} else if u != (Usage{}) {
			continue
		}
		err := os.Symlink("../"+owner, l.path(n))
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return n, err
		}
	}
	return 0, errs.Newf(errs.NoSpace, "", "", "all 65,536 projects are in use").WithHint("remove containers, or volumes, that have a limit")
}

// find is the project of an owner, 0 if it has none. Claims of owners that are gone are freed, and with
// release the owner's as well.
func (l *ledger) find(owner string, release bool) (own uint32, err error) {
	names, err := l.file.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil || n < first || n >= first+many {
			continue // nobody of ours made it
		}
		target, err := os.Readlink(l.path(uint32(n)))
		if err != nil {
			return 0, err
		}
		mine := target == "../"+owner
		if mine {
			own = uint32(n)
		}
		_, err = os.Lstat(filepath.Join(l.file.Name(), target))
		if gone := errors.Is(err, fs.ErrNotExist); !gone && !(mine && release) {
			continue
		}
		// The claim last: who gets it next finds no limit of ours.
		if err := kernel.SetQuota(l.fd(), uint32(n), 0); err != nil && !off(err) {
			return 0, err
		}
		if err := os.Remove(l.path(uint32(n))); err != nil {
			return 0, err
		}
	}
	return own, nil
}

// off reports that quotas are off by now: then there is no limit either.
func off(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}
