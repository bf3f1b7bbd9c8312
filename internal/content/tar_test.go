package content

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/cortenhq/corten/internal/tree"
)

// checker is a sink that takes nothing for granted.
type checker struct{ t *testing.T }

func (c checker) put(e *tree.Entry, content io.Reader) error {
	for _, p := range []string{e.Path, e.Link} {
		if clean, err := tree.Clean("/" + p); p == e.Link && e.Type != tree.Hardlink {
			continue
		} else if err != nil || clean != p {
			c.t.Errorf("%q is not canonical: %v", p, err)
		}
	}
	if e.Path == "" && e.Type != tree.Dir || e.Type == tree.Invalid || e.Size < 0 || e.Size > 0 && e.Type != tree.Regular {
		c.t.Errorf("%+v", e)
	}
	if e.Size > 1<<20 {
		return io.EOF // a hole of any size fits in a few bytes
	}
	if e.Type == tree.Regular {
		n, err := io.Copy(io.Discard, content)
		if err == nil && n != e.Size {
			c.t.Errorf("%d bytes of %d", n, e.Size)
		}
		return err
	}
	return nil
}

func FuzzTar(f *testing.F) {
	var buf bytes.Buffer
	w := newTarWriter(&buf)
	for _, e := range []*tree.Entry{
		{Path: "d", Type: tree.Dir, Mode: 0o755, Xattrs: []tree.Xattr{{Name: "user.a", Value: []byte{0, 1}}}},
		{Path: "d/f", Type: tree.Regular, Size: 3, UID: 1 << 30}, {Path: "d/g", Type: tree.Hardlink, Link: "d/f"},
		{Path: "l", Type: tree.Symlink, Link: "/../.."}, {Path: "c", Type: tree.Char, Major: 1, Minor: 3}, {Path: "p", Type: tree.Fifo},
	} {
		ok(f, w.put(e, bytes.NewReader([]byte("abc"))))
	}
	ok(f, w.finish())
	f.Add(buf.Bytes())
	for _, name := range []string{"../x", "/x", "a/../../b", "./.", "x//y", "x\ny"} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		ok(f, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: name}))
		ok(f, w.Close())
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readTar(context.Background(), bytes.NewReader(b), checker{t})
	})
}
