package logs

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Position is a place in a log: a file by its number, and an offset in it as it was before
// it was compressed.
type Position struct {
	File   uint64 // from 1
	Offset int64
}

// File is what a folder has under one number. For a moment it is there in both forms, when
// it has just been compressed.
type File struct {
	N                 uint64
	Plain, Compressed bool
}

// Name is the name of file n.
func Name(n uint64) string { return strconv.FormatUint(n, 10) + ".log" }

// CompressedName is the name of file n once it is compressed.
func CompressedName(n uint64) string { return Name(n) + ".gz" }

// ParseName is the inverse of Name and CompressedName; ok is false for any other name.
func ParseName(name string) (n uint64, compressed, ok bool) {
	base, compressed := strings.CutSuffix(name, ".gz")
	base, isLog := strings.CutSuffix(base, ".log")
	n, err := strconv.ParseUint(base, 10, 64)
	if err != nil || !isLog || n == 0 || base[0] == '0' || base[0] == '+' {
		return 0, false, false
	}
	return n, compressed, true
}

// Files lists the folder, the oldest first. It reads the folder at once and opens none of
// the files: each may be compressed or removed before it is opened.
func Files(folder string) ([]File, error) {
	fd, err := open(unix.AT_FDCWD, folder, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return files(fd)
}

func files(dir int) ([]File, error) {
	var out []File
	var names []string
	buf := make([]byte, 4096)
	if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	for {
		n, err := unix.Getdents(dir, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if n, compressed, ok := ParseName(name); ok {
				out = append(out, File{N: n, Plain: !compressed, Compressed: compressed})
			}
		}
	}
	slices.SortFunc(out, func(a, b File) int {
		if a.N < b.N {
			return -1
		}
		if a.N > b.N {
			return 1
		}
		return 0
	})
	return merge(out), nil
}

// Compressible reports whether a log has files to compress: all are but the one that is written.
func Compressible(folder string) bool {
	list, err := Files(folder)
	return err == nil && slices.ContainsFunc(list[:max(len(list)-1, 0)], func(f File) bool { return f.Plain })
}

// merge makes one of neighbours with the same number.
func merge(in []File) []File {
	out := in[:0]
	for _, f := range in {
		if n := len(out); n > 0 && out[n-1].N == f.N {
			out[n-1].Plain = out[n-1].Plain || f.Plain
			out[n-1].Compressed = out[n-1].Compressed || f.Compressed
			continue
		}
		out = append(out, f)
	}
	return out
}

// open is openat(2), again after a signal.
func open(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0o640)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
