package content

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/spec"
)

// readMap reads a uid_map or gid_map.
func readMap(path string) ([]spec.IDMap, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	maps, err := spec.ParseIDMaps(string(b))
	if err != nil {
		return nil, errs.New(errs.Corrupt, "read", path, err)
	}
	return maps, nil
}

// become makes this thread create files as the container's root: the file systems of a container
// know no other owners than its own. Where files of others are in it, it may do to them only what
// all may.
func (x ids) become(foreign bool) error {
	uid, gid, err := x.root()
	if err != nil {
		return err
	}
	if _, err := kernel.FilesAs(uid, gid); err != nil { // the thread ends with it
		return errs.New(errs.Denied, "take the file system identity of", "user "+strconv.Itoa(int(uid)), err).
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
