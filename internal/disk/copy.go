package disk

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// holeBlock is the unit, in bytes, in which zeros become holes: no file system that Linux
// has by default allocates in smaller ones.
const holeBlock = 4096

// WriteSparse writes b at offset off of f, which has nothing there yet, and leaves holes
// where whole blocks are zero. off is a multiple of 4,096. A hole at the end does not count
// for the file's size: Truncate to it when all is written.
func WriteSparse(f *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) && isZero(b[n:]) {
			n += min(holeBlock, len(b)-n)
		}
		b, off = b[n:], off+int64(n)
		n = 0
		for n < len(b) && !isZero(b[n:]) {
			n += min(holeBlock, len(b)-n)
		}
		if n == 0 {
			continue
		}
		if _, err := f.WriteAt(b[:n], off); err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// isZero reports whether b's first block is all zeros.
func isZero(b []byte) bool {
	n := min(holeBlock, len(b))
	// Zero, and each byte like the one before it. The first condition decides nearly always.
	return b[0] == 0 && bytes.Equal(b[1:n], b[:n-1])
}

// Copy makes dst, which is empty, have the content of src. Where the file system can, both
// share their blocks until one is changed (FICLONE: btrfs, XFS); else the bytes are copied
// in the kernel, and holes stay holes. What others see of dst meanwhile is unfinished.
func Copy(dst, src *os.File) error {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	info, err := src.Stat()
	if err != nil {
		return errs.Wrap("copy", src.Name(), cause(err))
	}
	size := info.Size()
	for off := int64(0); off < size; {
		start, end, err := nextData(src, off, size)
		if err == nil {
			err = copyRange(dst, src, start, end)
		}
		if err != nil {
			return errs.Wrap("copy", src.Name(), cause(err))
		}
		off = end
	}
	return errs.Wrap("copy", src.Name(), cause(dst.Truncate(size)))
}

// nextData finds the first run of data at or after off. A file system that knows no holes
// says that all is data.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO: // nothing but a hole up to the end
		return size, size, nil
	case unix.EINVAL:
		return off, size, nil
	default:
		return 0, 0, err
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	return start, min(end, size), err
}

// copyRange copies the bytes from start to end, to the same place.
func copyRange(dst, src *os.File, start, end int64) error {
	to, from := start, start
	for from < end {
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(end-from, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EXDEV || err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL:
			// Different file systems, before Linux 5.19 also different mounts.
			_, err := io.Copy(io.NewOffsetWriter(dst, to), io.NewSectionReader(src, from, end-from))
			return err
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF // somebody shortened the file under us
		}
	}
	return nil
}
