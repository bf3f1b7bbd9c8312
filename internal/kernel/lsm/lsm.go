// Package lsm asks the kernel which of its security modules confines processes here, whether a
// profile of AppArmor is loaded, and under which one a process runs. A profile comes from a file
// of the host by apparmor_parser, stays in the kernel until it is removed or the machine ends, and
// a process takes it at an exec; nothing here loads one.
//
// Everybody may ask, root of a user namespace too.
package lsm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// AppArmor reports whether AppArmor is active.
func AppArmor() (bool, error) {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return strings.HasPrefix(string(b), "Y"), missing(err)
}

// SELinux reports whether SELinux is active, enforcing or not.
func SELinux() (bool, error) {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil, missing(err)
}

// missing has it that what is not there is no error.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// policy lists the profiles that are loaded; not all kernels show their list to others than root.
const policy = "/sys/kernel/security/apparmor/policy/profiles"

// Profile is the mode of a profile of AppArmor that is loaded ("enforce", "complain", "kill",
// "unconfined"); empty if it is not. Without securityfs nobody can tell, and that is the error.
func Profile(name string) (mode string, err error) {
	list, err := os.ReadDir(policy)
	if err != nil {
		return "", err
	}
	for _, e := range list {
		// NAME.NUMBER, with what a file name may not have replaced.
		dir := filepath.Join(policy, e.Name())
		if cut := strings.LastIndexByte(e.Name(), '.'); cut < 0 || len(e.Name()[:cut]) != len(name) {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, "name")); err != nil || strings.TrimSpace(string(b)) != name {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "mode"))
		return strings.TrimSpace(string(b)), err
	}
	return "", nil
}

// Confined is the profile of AppArmor that a process runs under, such as "corten-default (enforce)"
// or "unconfined"; empty if there is none.
func Confined(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/attr/apparmor/current")
	return strings.TrimSpace(strings.TrimRight(string(b), "\x00"))
}
