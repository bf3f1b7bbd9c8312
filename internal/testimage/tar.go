package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// File is one entry of a layer. The zero Type is a regular file whose content is Data, or
// what the host's file at Path holds.
type File struct {
	Name         string // relative, no leading slash; a directory needs no trailing one
	Type         byte   // as in archive/tar: tar.TypeReg, TypeDir, TypeSymlink, TypeLink, ...
	Mode         int64  // permissions with setuid, setgid and sticky; 0 means 0755, or 0644 for a file
	UID, GID     int
	Data         []byte
	Path         string
	Link         string // target of a symbolic or hard link
	Major, Minor int64
	Xattrs       map[string]string
	ModTime      time.Time // Created() when zero

	flip byte // xored with every byte of the content: another file of the same entropy
}

// NoMode is the Mode of a file that nobody may read: 0 would mean the default.
const NoMode = 1 << 30

func writeTar(w io.Writer, files []File) error {
	tw := tar.NewWriter(w)
	for _, f := range files {
		if err := f.writeTo(tw); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return tw.Close()
}

func (f File) writeTo(tw *tar.Writer) error {
	h, body, err := f.open()
	if err != nil {
		return err
	}
	defer body.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err = io.Copy(tw, flipper{body, f.flip})
	return err
}

// open returns the header of f and its content.
func (f File) open() (*tar.Header, io.ReadCloser, error) {
	h := &tar.Header{Format: tar.FormatPAX, Typeflag: f.Type, Name: f.Name, Linkname: f.Link, Mode: f.mode(), Uid: f.UID, Gid: f.GID,
		Devmajor: f.Major, Devminor: f.Minor, ModTime: f.ModTime, Size: int64(len(f.Data))}
	if f.Type == 0 {
		h.Typeflag = tar.TypeReg
	}
	if f.Type == tar.TypeDir {
		h.Name += "/"
	}
	if f.ModTime.IsZero() {
		h.ModTime = Created()
	}
	for k, v := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+k] = v
	}
	if f.Path == "" || h.Typeflag != tar.TypeReg {
		return h, io.NopCloser(bytes.NewReader(f.Data)), nil
	}
	src, err := os.Open(f.Path)
	if err != nil {
		return nil, nil, err
	}
	st, err := src.Stat()
	if err != nil {
		src.Close()
		return nil, nil, err
	}
	h.Size = st.Size()
	return h, src, nil
}

// paxXattr begins the record that carries an extended attribute.
const paxXattr = "SCHILY.xattr."

func (f File) mode() int64 {
	switch {
	case f.Mode == NoMode:
		return 0
	case f.Mode != 0:
		return f.Mode
	case f.Type == 0 || f.Type == tar.TypeReg:
		return 0o644
	}
	return 0o755
}

type flipper struct {
	r io.Reader
	x byte
}

func (f flipper) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.x != 0 {
		for i := range p[:n] {
			p[i] ^= f.x
		}
	}
	return n, err
}

// Tree lists the host's directory root, in lexical order and without root itself, as entries
// of a layer. keep says whether a path, relative to root, belongs to the layer; nil keeps all.
// Names of one file become hard links. Modification times after Created become Created.
func Tree(t T, root string, keep func(path string, d fs.DirEntry) bool) []File {
	t.Helper()
	var files []File
	first := map[uint64]string{} // inode number: the name met first
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel := path[len(root)+1:]
		if keep != nil && !keep(rel, d) {
			return nil
		}
		f, inode, err := fromHost(path, rel)
		if err != nil {
			return err
		}
		if name, seen := first[inode]; seen && inode != 0 {
			f = File{Name: rel, Type: tar.TypeLink, Link: name, Mode: f.Mode, UID: f.UID, GID: f.GID, ModTime: f.ModTime}
		}
		first[inode] = rel
		files = append(files, f)
		return nil
	})
	must(t, "list tree", err)
	return files
}

// fromHost describes the host's file at path; inode is 0 unless it has several names.
func fromHost(path, rel string) (f File, inode uint64, err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return f, 0, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return f, 0, err
	}
	f = File{Name: rel, Type: h.Typeflag, Mode: h.Mode, UID: int(st.Uid), GID: int(st.Gid), Path: path, ModTime: h.ModTime.Truncate(time.Second),
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	if f.Mode == 0 {
		f.Mode = NoMode
	}
	if f.ModTime.After(Created()) {
		f.ModTime = Created()
	}
	if h.Typeflag == tar.TypeSymlink {
		f.Link, err = os.Readlink(path)
		return f, 0, err
	}
	buf := make([]byte, 64) // a capability attribute has at most 24 bytes
	if n, err := unix.Lgetxattr(path, xattrCapability, buf); err == nil {
		f.Xattrs = map[string]string{xattrCapability: string(buf[:n])}
	}
	if fi.Mode().IsRegular() && st.Nlink > 1 {
		inode = st.Ino
	}
	return f, inode, nil
}

const xattrCapability = "security.capability"
