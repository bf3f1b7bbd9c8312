package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// content is the files of an archive by name: slash-separated, without "..", "." or a
// leading slash.
type content interface {
	// open returns a regular file's bytes and their number. Its stream has exactly that
	// many or fails. A file that is not there is fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

// folder is a directory on disk. The kernel keeps every name below it.
type folder struct{ root *os.Root }

func openFolder(path string) (content, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

func (d folder) open(name string) (io.ReadCloser, int64, error) {
	// O_NONBLOCK: a FIFO in place of a file must not stop us.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errs.Newf(errs.Invalid, "open", name, "it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return &exactly{f, st.Size(), f}, st.Size(), nil
}

func (d folder) Close() error { return d.root.Close() }

// exactly reads left bytes, no more, and fails if there are less.
type exactly struct {
	r    io.Reader
	left int64
	io.Closer
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// tarFile is an open file and where in it the entries' bytes are. The file is the tar
// itself, or holds only the bytes.
type tarFile struct {
	file    *os.File
	entries map[string]entry
}

// entry is a regular file, or a link to one.
type entry struct {
	offset, size int64
	link         string // the clean name of another entry
}

const (
	maxEntries = 100_000 // real archives have a few for each layer
	maxName    = 1024    // bytes
	maxLinks   = 16      // to follow from one name; old archives have one
)

func (t *tarFile) open(name string) (io.ReadCloser, int64, error) {
	for range maxLinks {
		e, ok := t.entries[name]
		if !ok {
			return nil, 0, fs.ErrNotExist
		}
		if e.link == "" {
			r := io.NewSectionReader(t.file, e.offset, e.size)
			return &exactly{r, e.size, io.NopCloser(nil)}, e.size, nil
		}
		name = e.link
	}
	return nil, 0, errs.Newf(errs.Invalid, "open", name, "its links lead in a circle").
		WithHint("the archive is damaged or made to do harm; do not use it")
}

func (t *tarFile) Close() error { return t.file.Close() }

// isPlain reports whether f is to be read as a tar without compression.
func isPlain(f *os.File) (bool, error) {
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	return compression(head[:n]) == "", nil
}

// compression names the format that head is the beginning of; "" is none that is known.
func compression(head []byte) string {
	for _, c := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"},
	} {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return c.name
		}
	}
	return ""
}

// indexTar notes where the files of a plain tar are. It takes f over if it succeeds.
func indexTar(ctx context.Context, f *os.File) (*tarFile, error) {
	t := &tarFile{file: f, entries: map[string]entry{}}
	// The tar reader reads single blocks and seeks over the rest, so after a header the
	// position of f is that of the entry's first byte.
	err := t.each(ctx, tar.NewReader(f), func(h *tar.Header, _ io.Reader) (int64, error) {
		return f.Seek(0, io.SeekCurrent)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// spool unpacks the files of a stream one after the other into a file without a name.
func spool(ctx context.Context, r io.Reader, tempDir string) (content, error) {
	plain, closer, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer closer()
	f, err := os.CreateTemp(tempDir, "archive-*")
	if err != nil {
		return nil, errs.Wrap("make temporary file", tempDir, err)
	}
	t := &tarFile{file: f, entries: map[string]entry{}}
	err = os.Remove(f.Name())
	if err == nil {
		err = t.fill(ctx, plain)
	}
	if errs.Is(err, errs.NoSpace) {
		err = errs.New(errs.NoSpace, "unpack to", tempDir, err).WithHint("make room there; an uncompressed archive that is a file needs none")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// fill copies the files of a tar stream to t.file, and reads the stream to its end so that
// whoever writes it can finish and checksums are compared.
func (t *tarFile) fill(ctx context.Context, r io.Reader) error {
	at := int64(0)
	buf := make([]byte, 256<<10)
	err := t.each(ctx, tar.NewReader(r), func(h *tar.Header, body io.Reader) (int64, error) {
		start := at
		for {
			n, err := body.Read(buf)
			if _, err := t.file.Write(buf[:n]); err != nil {
				return 0, err
			}
			at += int64(n)
			if err == io.EOF {
				return start, nil
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return 0, err
			}
		}
	})
	if err != nil {
		return err
	}
	const padding = 1 << 20 // bytes after the end mark that are still read; tar pads to 10 KiB
	if _, err := io.Copy(io.Discard, io.LimitReader(r, padding)); err != nil {
		return damaged(err)
	}
	return nil
}

// each calls place for every regular file of a tar and keeps the offset it returns. Of two
// entries with one name the later counts, as it would after unpacking.
func (t *tarFile) each(ctx context.Context, r *tar.Reader, place func(*tar.Header, io.Reader) (int64, error)) error {
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		if err := ctx.Err(); err != nil {
			return errs.New(errs.Canceled, "read tar", "", err)
		}
		if n >= maxEntries {
			return errs.Newf(errs.Invalid, "read tar", "", "it has more than 100000 entries").WithHint("no image archive has so many; a tar of a root file system is read by corten import")
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return err
		}
		var e entry
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return errs.Newf(errs.Unsupported, "read tar", name, "it is stored as a sparse file").WithHint("make the archive again without tar's --sparse")
			}
			e.size = h.Size
			e.offset, err = place(h, r)
			if err != nil {
				return damaged(err)
			}
		case tar.TypeSymlink:
			e.link, err = cleanName(path.Join(path.Dir(name), h.Linkname))
			if path.IsAbs(h.Linkname) {
				_, err = cleanName(h.Linkname)
			}
		case tar.TypeLink:
			e.link, err = cleanName(h.Linkname)
		case tar.TypeGNUSparse:
			return errs.Newf(errs.Unsupported, "read tar", name, "it is stored as a sparse file").WithHint("make the archive again without tar's --sparse")
		default: // folders say nothing, and nothing else can be a blob
			continue
		}
		if err != nil {
			return err
		}
		t.entries[name] = e
	}
}

// isSparse knows the PAX forms; the bytes of such an entry are not where they seem to be.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// cleanName gives an entry's name its one form, and refuses one that leads out.
func cleanName(name string) (string, error) {
	clean := path.Clean(name)
	if len(name) > maxName || !fs.ValidPath(clean) {
		return "", errs.Newf(errs.Invalid, "read tar", printable(name), "the name leads out of the archive or cannot be a name").
			WithHint("the archive is damaged or made to do harm; do not use it")
	}
	return clean, nil
}

// damaged words the errors of the tar reader and the decompressors; those of the disk and
// our own keep their kind.
func damaged(err error) error {
	var (
		known *errs.Error
		disk  *fs.PathError
	)
	if errors.As(err, &known) || errors.As(err, &disk) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errs.New(errs.Canceled, "read tar", "", err)
	}
	return errs.New(errs.Corrupt, "read tar", "", err).WithHint("the archive is damaged or cut short, or it is no tar; save or copy it again")
}

// maxWindow bounds a zstd decoder's memory, in bytes: the window that "zstd --long" uses.
const maxWindow = 128 << 20

// decompress returns the bytes inside r, which may be compressed, and what to call after.
func decompress(r io.Reader) (io.Reader, func(), error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch kind := compression(head); kind {
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, damaged(err)
		}
		return z, func() {}, nil
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, damaged(err)
		}
		return z, z.Close, nil
	case "":
		return in, func() {}, nil
	default:
		return nil, nil, errs.Newf(errs.Unsupported, "read tar", "", "it is compressed with "+kind).
			WithHint("decompress it on the way in: " + kind + " -dc FILE | corten load")
	}
}

// printable shows a name from an archive on one line and not too long.
func printable(s string) string {
	const most = 80 // bytes
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
}
