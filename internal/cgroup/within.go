package cgroup

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Within says how a program is started, from this thread, whose children see the group as the top of what there is: the
// program is in the group then, which it may leave. It changes the groups of this thread, which is of no other use.
func (g Group) Within() (attr *syscall.SysProcAttr, leave func(pid int) error, err error) {
	attr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWCGROUP}
	v2, tasks := g.Enter()
	for _, file := range tasks {
		if err := writeFile(file, "0"); err != nil {
			return nil, nil, errs.Wrap("enter control group", file, err)
		}
	}
	fd := -1
	if v2 != "" {
		if fd, err = open(v2, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return nil, nil, errs.Wrap("open control group", v2, err)
		}
		attr.UseCgroupFD, attr.CgroupFD = true, fd
	}
	return attr, func(pid int) error {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return g.Leave(pid)
	}, nil
}

// In is the directory of the group in the v1 hierarchy of some controllers, as the kernel names them together, or in v2 if
// there are none.
func (g Group) In(controllers string) (dir string, ok bool) {
	for _, dir := range g {
		if isV2(dir) {
			if controllers == "" {
				return dir, true
			}
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			if strings.Contains(dir, "/"+strings.TrimPrefix(c, "name=")+"/") {
				return dir, true
			}
		}
	}
	return "", false
}
