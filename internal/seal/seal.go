// Package seal has the kernel check what is read of files that never change (fs-verity).
//
// A file is written, closed, and sealed: the kernel computes a tree of hashes over it, keeps
// that beside the content, and from then on nobody can write to the file, and no page of it is
// read that does not fit the tree. The root of the tree is the seal, one SHA-256: whoever wrote
// it down knows the content. A Book seals the objects of an image while others still arrive and
// remembers their seals, which the image's tree then names for overlayfs to compare.
//
// A copy of a sealed file is not sealed, and the file system has to be made for it (ext4
// -O verity, Linux 5.4; btrfs, 5.15).
package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
)

// Seal is the fs-verity digest of a file: SHA-256, blocks of 4 KiB, no salt. fsverity(1)
// writes it as "sha256:" and Hex.
type Seal [sha256.Size]byte

// Hex is the seal in hexadecimal digits.
func (s Seal) Hex() string { return hex.EncodeToString(s[:]) }

// Of is the seal of the file at path; false if it has none. On a file system that knows no
// seals no file has one.
func Of(path string) (Seal, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return Seal{}, false, err
	}
	defer f.Close()
	return of(f)
}

func of(f *os.File) (Seal, bool, error) {
	d, err := kernel.MeasureVerity(int(f.Fd()))
	switch err {
	case nil:
		return d, true, nil
	case unix.ENODATA, unix.ENOTTY, unix.EOPNOTSUPP:
		return Seal{}, false, nil
	}
	return Seal{}, false, errs.Wrap("read seal of", f.Name(), err)
}

// File seals the file at path, which nobody will write to any more. One that is sealed
// already keeps its seal. Kind Unsupported says that the file system cannot.
func File(path string) (Seal, error) {
	f, err := os.Open(path)
	if err != nil {
		return Seal{}, err
	}
	defer f.Close()
	return file(f)
}

// patience is how long others may have the file open for writing, or be sealing it.
const patience = 10 * time.Second

func file(f *os.File) (Seal, error) {
	const op = "seal"
	// Who stored the file may be about to close it (ETXTBSY), as may a child of his that has yet
	// to execute its program; and another process may be sealing it (EBUSY). Neither can be
	// waited for but by asking again.
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err = kernel.EnableVerity(int(f.Fd()))
		if err != unix.ETXTBSY && err != unix.EBUSY && err != unix.EINTR || time.Now().After(end) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
		return Seal{}, errs.New(errs.Unsupported, op, f.Name(), err).WithHint("the file system is not made for fs-verity: tune2fs -O verity on ext4")
	case err != nil && err != unix.EEXIST:
		return Seal{}, errs.Wrap(op, f.Name(), err)
	}
	s, sealed, err := of(f)
	if err == nil && !sealed {
		err = errs.Newf(errs.Unsupported, op, f.Name(), "it has a seal of another form than Corten makes").
			WithHint("remove the file, and the images that have it, and pull them again")
	}
	return s, err
}
