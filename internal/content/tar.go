package content

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// paxXattr begins the PAX records that carry extended attributes.
const paxXattr = "SCHILY.xattr."

// tarWriter is a sink that writes a tar. Equal files give equal bytes.
type tarWriter struct {
	tar *tar.Writer
}

func newTarWriter(w io.Writer) *tarWriter { return &tarWriter{tar.NewWriter(w)} }

func (t *tarWriter) put(e *tree.Entry, content io.Reader) error {
	h := &tar.Header{
		Name: e.Path, Linkname: e.Link, Size: e.Size, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: time.Unix(e.MTime, 0), Devmajor: int64(e.Major), Devminor: int64(e.Minor),
	}
	switch e.Type {
	case tree.Dir:
		h.Typeflag = tar.TypeDir
		if h.Name += "/"; e.Path == "" {
			h.Name = "./"
		}
	case tree.Regular:
		h.Typeflag = tar.TypeReg
	case tree.Symlink:
		h.Typeflag = tar.TypeSymlink
	case tree.Hardlink:
		h.Typeflag = tar.TypeLink
	case tree.Char:
		h.Typeflag = tar.TypeChar
	case tree.Block:
		h.Typeflag = tar.TypeBlock
	case tree.Fifo:
		h.Typeflag = tar.TypeFifo
	}
	for _, x := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+x.Name] = string(x.Value)
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return errs.Wrap("write tar", shown(e.Path), err)
	}
	if e.Type != tree.Regular {
		return nil
	}
	// A file that is being written may be longer by now, or shorter: then, as other tars
	// have it, it ends with zeros.
	n, err := io.Copy(t.tar, io.LimitReader(content, e.Size))
	if err == nil && n < e.Size {
		_, err = io.CopyN(t.tar, zeros{}, e.Size-n)
	}
	return errs.Wrap("write tar", shown(e.Path), err)
}

func (t *tarWriter) finish() error { return errs.Wrap("write tar", "", t.tar.Close()) }

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// readTar gives the files of a tar to a sink.
func readTar(ctx context.Context, r io.Reader, to sink) error {
	t := tar.NewReader(r)
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return errs.New(errs.Canceled, "", "", err)
		}
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // parse judges names
			e := errs.New(errs.Invalid, "read tar", "", err)
			if first {
				_ = e.WithHint("it has to be a plain tar; unpack a compressed one first: zcat FILE | corten cp - CONTAINER:PATH")
			}
			return e
		}
		e, err := parse(h)
		if err != nil {
			return err
		}
		if e == nil {
			continue
		}
		if err := to.put(e, t); err != nil {
			return err
		}
	}
}

// parse reads a header; nil if it is about no file.
func parse(h *tar.Header) (*tree.Entry, error) {
	path, err := tree.Clean(h.Name)
	if err != nil {
		return nil, errs.Wrap("read tar", "", err)
	}
	if uint64(h.Uid) >= math.MaxUint32 || uint64(h.Gid) >= math.MaxUint32 { // the highest number means nobody, chown(2)
		return nil, errs.Newf(errs.Invalid, "read tar", shown(path), "it belongs to no user or group that can be")
	}
	e := &tree.Entry{Path: path, Mode: uint16(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix(), NSec: uint32(h.ModTime.Nanosecond())}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Type, e.Size = tree.Regular, h.Size
	case tar.TypeDir:
		e.Type = tree.Dir
	case tar.TypeSymlink:
		e.Type, e.Link = tree.Symlink, h.Linkname
	case tar.TypeLink:
		e.Type = tree.Hardlink
		if e.Link, err = tree.Clean(h.Linkname); err != nil {
			return nil, errs.Wrap("read tar", shown(path), err)
		}
	case tar.TypeChar, tar.TypeBlock:
		e.Type, e.Major, e.Minor = tree.Char, uint32(h.Devmajor), uint32(h.Devminor)
		if h.Typeflag == tar.TypeBlock {
			e.Type = tree.Block
		}
	case tar.TypeFifo:
		e.Type = tree.Fifo
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		return nil, errs.Newf(errs.Unsupported, "read tar", shown(path), "of the unknown type "+strconv.QuoteRune(rune(h.Typeflag)))
	}
	if e.Path == "" && e.Type != tree.Dir {
		return nil, errs.Newf(errs.Invalid, "read tar", shown(h.Name), "it has no name")
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if ok && (name == capability || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")) {
			e.Xattrs = append(e.Xattrs, tree.Xattr{Name: name, Value: []byte(value)})
		}
	}
	return e, nil
}

// shown is a name for an error: quoted and cut, lest a hostile one plays with the terminal.
func shown(name string) string {
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return strconv.Quote(name)
}
