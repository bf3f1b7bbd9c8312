package kernel

import "golang.org/x/sys/unix"

// QuotaFlags tells which quotas are on, FS_QUOTA_* of <linux/dqblk_xfs.h>, on the file
// system that fd is on (quotactl_fd: Linux 5.14).
func QuotaFlags(fd int) (uint16, error) { return quotaFlags(fd) }

// ProjectQuota is what a file system counts for one project.
type ProjectQuota struct {
	Limit uint64 // bytes that it may have, in steps of 1 KiB; 0: any number
	Used  uint64 // bytes that it has
	Files uint64 // inodes that it has
}

// Quota asks what a project has on the file system that fd is on (quotactl_fd: Linux 5.14).
func Quota(fd int, project uint32) (ProjectQuota, error) {
	q, err := getQuota(fd, project)
	if err == unix.ENOENT || err == unix.ESRCH { // XFS has no record of a project that never had anything
		return ProjectQuota{}, nil
	}
	return q, err
}

// SetQuota limits the bytes of a project on the file system that fd is on, in steps of 1 KiB.
func SetQuota(fd int, project uint32, limit uint64) error { return setQuota(fd, project, limit) }

// Project is the project that an open file belongs to.
func Project(fd int) (uint32, error) {
	a, err := getXAttr(fd)
	return a.project, err
}

// SetProject makes an open directory belong to a project, with all that is made in it from now on
// (FS_IOC_FSSETXATTR: Linux 4.5).
func SetProject(fd int, project uint32) error {
	const inherit = 0x200 // FS_XFLAG_PROJINHERIT, <linux/fs.h>
	a, err := getXAttr(fd)
	if err != nil {
		return err
	}
	a.project = project
	a.flags |= inherit
	return setXAttr(fd, &a)
}
