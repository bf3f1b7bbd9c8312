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

// Options say how to copy.
type Options struct {
	// Archive keeps the numbers of users and groups. Without it what comes into a container
	// belongs to its root, and what comes out to whoever copies it; then programs lose on the
	// host the rights of their owner (set-user-id, file capabilities).
	Archive bool
	Follow  bool              // copy what a symlink that is named leads to
	Skip    func(path string) // told what is left out: sockets, and devices unless in a tar
}

func (o Options) skip() func(string) {
	if o.Skip == nil {
		return func(string) {}
	}
	return o.Skip
}

// Out copies what the container has at src to dst on the host, by the rules of docker cp. It
// returns how many bytes of files that were.
func (r *Root) Out(ctx context.Context, src, dst string, o Options) (int64, error) {
	s, err := r.source(src, o.Follow)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s.fd)
	t, err := host().target(dst, s)
	if err != nil {
		return 0, errs.Wrap("copy to", dst, err)
	}
	defer unix.Close(t.dir)
	m := newMaker(t.dir)
	m.skip, m.noDevices = o.skip(), true
	if !o.Archive {
		m.owner, m.tame = &owner{uint32(os.Getuid()), uint32(os.Getgid())}, true
	}
	ours := make(chan func()) // what is made on the host is made with our own identity
	defer close(ours)
	go func() {
		for f := range ours {
			f()
		}
	}()
	c := &counter{to: m, do: doer(ours)}
	err = r.do(func() error { return copyTree(ctx, s, t.name, c, r.ids, o) })
	if err == nil {
		err = m.finish()
	}
	return c.bytes, errs.Wrap("copy from", r.name+":"+src, err)
}

// OutTar writes what the container has at src as a tar, with its owners.
func (r *Root) OutTar(ctx context.Context, src string, w io.Writer, o Options) (int64, error) {
	s, err := r.source(src, o.Follow)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s.fd)
	t := newTarWriter(w)
	c := &counter{to: t, do: here}
	err = r.do(func() error { return copyTree(ctx, s, s.tarName(), c, r.ids, o) })
	if err == nil {
		err = t.finish()
	}
	return c.bytes, errs.Wrap("copy from", r.name+":"+src, err)
}

// In copies src of the host to where the container has dst.
func (r *Root) In(ctx context.Context, src, dst string, o Options) (int64, error) {
	s, err := host().source(onHost(src), o.Follow)
	if err != nil {
		return 0, errs.Wrap("copy from", src, err)
	}
	defer unix.Close(s.fd)
	var t target
	if err := r.do(func() error {
		t, err = r.inside().target(clean(dst), s)
		return err
	}); err != nil {
		return 0, errs.Wrap("copy to", r.name+":"+dst, err)
	}
	defer unix.Close(t.dir)
	m := r.maker(t.dir, o)
	m.noDevices = true
	c := &counter{to: m, do: r.do}
	err = copyTree(ctx, s, t.name, c, ids{}, o)
	if err == nil {
		err = r.do(m.finish)
	}
	return c.bytes, errs.Wrap("copy to", r.name+":"+dst, err)
}

// InTar unpacks a tar in the directory dst of the container. Symlinks of the container on
// the way of the tar's names are followed, in the container.
func (r *Root) InTar(ctx context.Context, tar io.Reader, dst string, o Options) (int64, error) {
	dst = clean(dst)
	var top int
	err := r.do(func() (err error) {
		top, err = r.inside().open(dst, unix.O_PATH|unix.O_DIRECTORY)
		return err
	})
	if err != nil {
		return 0, errs.New(errs.KindOf(err), "copy to", r.name+":"+dst, err).WithHint("a tar is unpacked in a directory that exists: make it first")
	}
	defer unix.Close(top)
	m := r.maker(top, o)
	m.follow = func(dir string) (int, error) {
		return r.inside().open(dst+"/"+dir, unix.O_PATH|unix.O_DIRECTORY)
	}
	c := &counter{to: m, do: r.do}
	err = readTar(ctx, tar, c)
	if err == nil {
		err = r.do(m.finish)
	}
	return c.bytes, errs.Wrap("copy to", r.name+":"+dst, err)
}

// maker makes files in the container.
func (r *Root) maker(top int, o Options) *maker {
	m := newMaker(top)
	m.ids, m.skip = r.ids, o.skip()
	if !o.Archive {
		m.owner = &owner{}
	}
	return m
}

// source finds what is to be copied from the container.
func (r *Root) source(src string, follow bool) (s source, err error) {
	err = r.do(func() error {
		s, err = r.inside().source(clean(src), follow)
		return err
	})
	if err == unix.ENOENT {
		return s, errs.Newf(errs.NotFound, "copy from", r.name+":"+src, "the container has no such file or directory")
	}
	return s, errs.Wrap("copy from", r.name+":"+src, err)
}

// clean makes a path of a container absolute, as Docker does: by its words, before any
// symlink is looked at. What a slash or dot at the end says is kept.
func clean(p string) string { return ending(p, path.Clean("/"+p)) }

// onHost does the same for a path of the host, whose last name may be "..".
func onHost(p string) string {
	if base := path.Base(p); base != ".." && base != "." || strings.HasSuffix(p, "/.") || p == "." {
		return p
	}
	wd, err := os.Getwd()
	if err != nil || path.IsAbs(p) {
		return ending(p, path.Clean(p))
	}
	return ending(p, path.Join(wd, p))
}

func ending(p, cleaned string) string {
	switch {
	case cleaned == "/":
	case p == "." || strings.HasSuffix(p, "/."):
		return cleaned + "/."
	case strings.HasSuffix(p, "/"):
		return cleaned + "/"
	}
	return cleaned
}

// copyTree gives a source, under a name, to a sink.
func copyTree(ctx context.Context, s source, name string, to sink, x ids, o Options) error {
	w := newWalker(ctx, to)
	w.ids, w.skip = x, o.skip()
	return w.all(s.fd, name)
}

// counter counts the bytes that go into a sink, and has another thread put them there.
type counter struct {
	to    sink
	do    func(func() error) error
	bytes int64
}

func (c *counter) put(e *tree.Entry, content io.Reader) error {
	c.bytes += e.Size
	return c.do(func() error { return c.to.put(e, content) })
}

func here(f func() error) error { return f() }

// doer has whoever reads the channel do things.
func doer(work chan<- func()) func(func() error) error {
	return func(f func() error) error {
		done := make(chan error, 1)
		work <- func() { done <- f() }
		return <-done
	}
}
