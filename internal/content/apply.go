package content

import (
	"context"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// Apply makes the changes of an image layer, as Layer writes them, in the root of a container that does not run.
func (r *Root) Apply(ctx context.Context, tar io.Reader) error {
	m := r.maker(r.fd, Options{Archive: true})
	l := &layered{m: m}
	err := readTar(ctx, tar, &counter{to: l, do: r.do})
	if err == nil {
		err = r.do(m.finish)
	}
	return errs.Wrap("apply changes to container", r.name, err)
}

// layered is a sink that takes what a layer says (image-spec, layer.md): names that begin with .wh. remove others, and
// what is there gives way.
type layered struct{ m *maker }

const whiteout = ".wh."

func (l *layered) put(e *tree.Entry, content io.Reader) error {
	name := path.Base(e.Path)
	if e.Path == "" {
		return nil
	}
	dir, err := l.m.in(e.Path)
	if err != nil {
		return l.m.wrap(e.Path, err)
	}
	if gone, ok := strings.CutPrefix(name, whiteout); ok {
		if gone == "" || strings.HasPrefix(gone, whiteout) || gone == "." || gone == ".." {
			return errs.Newf(errs.Invalid, "read layer", shown(e.Path), "it removes nothing that can be there")
		}
		return l.m.wrap(e.Path, os.RemoveAll(self(dir)+"/"+gone))
	}
	var st unix.Stat_t
	there := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if there && folder != (e.Type == tree.Dir) {
		if err := os.RemoveAll(self(dir) + "/" + name); err != nil {
			return l.m.wrap(e.Path, err)
		}
		there = false
	}
	if !there || e.Type != tree.Dir {
		return l.m.put(e, content)
	}
	fd, err := below(dir, name)
	if err == nil {
		l.m.dirs = append(l.m.dirs, dated{e.Path, timeOf(e)})
		err = l.m.dress(dir, name, fd, e)
		_ = unix.Close(fd)
	}
	return l.m.wrap(e.Path, err)
}
