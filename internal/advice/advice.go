// Package advice says what to do about errors of the system: what a machine lacks shows as the
// same few errors, whichever step meets it first.
package advice

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
)

// Add adds a hint to an error of the system that has none. Any other error is returned as it is.
func Add(err error) error {
	var errno unix.Errno
	if err == nil || errs.HintOf(err) != "" || !errors.As(err, &errno) {
		return err
	}
	hint := ""
	switch errno {
	case unix.EPERM, unix.EACCES:
		hint = missingRights()
	case unix.ENOENT:
		if _, err := os.Stat("/proc/self"); err != nil {
			hint = "there is no /proc: mount -t proc proc /proc"
		}
	case unix.EMFILE:
		hint = "allow more open files: ulimit -n 1024"
	case unix.ENFILE:
		hint = "the machine allows no more open files: see sysctl fs.file-max"
	case unix.ENOSPC, unix.EDQUOT:
		hint = "free some space, or files if df -i shows that these are used up; --root and --run choose other places"
	case unix.EROFS:
		hint = "it is mounted read-only: choose another place with --root or --run"
	case unix.ENOTDIR, unix.EOPNOTSUPP:
		hint = "choose another place with --root or --run"
	case unix.ENOMEM:
		hint = "free some memory, or allow more: a control group may limit it"
	}
	if hint == "" {
		return err
	}
	return errs.New(errs.KindOf(err), "", "", err).WithHint(hint)
}

// missingRights says which of the rights that starting a container takes this process lacks;
// empty if it has all that can be told.
func missingRights() string {
	if os.Geteuid() != 0 {
		return "run it as root"
	}
	if nest.Inside() {
		return "ordinary users may not do that: see corten doctor, or run it as root"
	}
	if ids, err := os.ReadFile("/proc/self/uid_map"); err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" {
		return "this is root of a user namespace, not of the machine: run it outside, or allow the outer container more"
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "\nCapEff:\t")
	rest, _, _ = strings.Cut(rest, "\n")
	have, err := strconv.ParseUint(rest, 16, 64)
	if err != nil {
		return ""
	}
	var lacks []string
	for _, c := range []struct {
		bit  uint
		name string
	}{
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETGID, "CAP_SETGID"},
		{unix.CAP_MKNOD, "CAP_MKNOD"}, {unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_FOWNER, "CAP_FOWNER"},
		{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	} {
		if have>>c.bit&1 == 0 {
			lacks = append(lacks, c.name)
		}
	}
	if len(lacks) == 0 {
		return ""
	}
	return "this process lacks " + strings.Join(lacks, ", ") + ": run it with all of root's capabilities"
}
