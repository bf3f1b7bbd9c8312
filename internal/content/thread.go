package content

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// readMap reads a uid_map or gid_map, user_namespaces(7).
func readMap(path string) ([]spec.IDMap, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var maps []spec.IDMap
	for line := range strings.Lines(string(b)) {
		var n [3]uint32
		f := strings.Fields(line)
		for i := range n {
			if len(f) != len(n) {
				return nil, errs.Newf(errs.Corrupt, "read", path, "a line without three numbers")
			}
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, errs.New(errs.Corrupt, "read", path, err)
			}
			n[i] = uint32(v)
		}
		maps = append(maps, spec.IDMap{Container: n[0], Host: n[1], Size: n[2]})
	}
	return maps, nil
}

// become makes this thread create files as the container's root, with all of our
// capabilities (securebits(7), no-setuid-fixup): the file systems of a container know no
// other owners than its own. Where files of others are in it, it may do to them only what
// all may.
func (x ids) become(foreign bool) error {
	uid, gid, err := x.root()
	if err != nil {
		return err
	}
	old, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP, <linux/securebits.h>
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(old)|noSetuidFixup, 0, 0, 0); err != nil {
		return err
	}
	// These calls report no error, but what they find set: -1 is no id and changes nothing.
	_, _ = unix.SetfsgidRetGid(int(gid))
	_, _ = unix.SetfsuidRetUid(int(uid))
	nowGID, _ := unix.SetfsgidRetGid(-1)
	nowUID, _ := unix.SetfsuidRetUid(-1)
	if nowGID != int(gid) || nowUID != int(uid) {
		return errs.New(errs.Denied, "take the file system identity of", "user "+strconv.Itoa(int(uid)), unix.EPERM).
			WithHint("run it as root")
	}
	if !foreign {
		return nil
	}
	return dropCapabilities(unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH)
}

// dropCapabilities takes capabilities out of this thread's effective set.
func dropCapabilities(list ...uint) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	for _, c := range list {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	return unix.Capset(&hdr, &data[0])
}
