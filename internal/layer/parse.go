package layer

import (
	"archive/tar"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// parser walks the tar and collects its entries as items, in the order of the tar.
type parser struct {
	opt   Options
	in    *stream
	tape  tape
	tar   *tar.Reader
	store *ingest

	items    []tree.Entry
	seen     int    // headers, also of entries that leave no item
	unpacked int64  // bytes of all files
	meta     int    // bytes that the items hold besides themselves
	slab     []byte // where inline files are put, many in one allocation
}

func (p *parser) run() error {
	for {
		p.tape.rewind()
		h, err := p.tar.Next()
		if errors.Is(err, tar.ErrInsecurePath) {
			err = nil // tree.Clean judges paths
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return p.fault("", err)
		}
		if p.seen++; p.seen > p.opt.MaxEntries {
			return errs.Newf(errs.Corrupt, op, "", "the layer has more than "+strconv.Itoa(p.opt.MaxEntries)+" entries")
		}
		if err := p.entry(h); err != nil {
			return err
		}
	}
	// A tar cut off between two entries looks whole but for the missing end. With a diff
	// id to compare it is known to be what its author made.
	if !p.tape.ended() && p.opt.DiffID == "" {
		return p.fault("", errors.New("the tar ends without an end mark: it was cut off"))
	}
	// What follows the end mark is not for us, but the diff id covers it.
	_, err := io.Copy(io.Discard, &p.tape)
	return err
}

// fault is what to say of an error of the tar reader: the stream's own, if that is behind
// it, else that the tar is bad.
func (p *parser) fault(path string, err error) error {
	if p.tape.broken != nil {
		return p.tape.broken
	}
	if path == "" {
		e := errs.New(errs.Corrupt, op, "", err)
		if p.seen == 0 {
			_ = e.WithHint("a layer is a tar archive, plain or compressed with gzip, zstd or bzip2")
		}
		return e
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corrupt(path, "the tar ends in the middle of the file")
	}
	return corrupt(path, err.Error())
}

// entry turns a header into an item, or into none if it is not about a file.
func (p *parser) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment for us: git puts a commit id there
	}
	path, err := tree.Clean(h.Name)
	if err != nil {
		return errs.Wrap(op, "", err)
	}
	mark, err := markOf(path)
	if err != nil {
		return err
	}
	switch mark.kind {
	case markIgnored:
		return nil
	case markWhiteout, markOpaque:
		return p.add(tree.Entry{Path: mark.path, Type: tree.Whiteout, Opaque: mark.kind == markOpaque})
	}
	e, why := convert(h, path)
	if why != "" {
		return corrupt(path, why)
	}
	if err := p.add(e); err != nil {
		return err
	}
	if e.Type != tree.Regular || e.Size == 0 {
		return nil
	}
	if p.tape.scribe == nil || e.Size <= tree.InlineMax || isSparse(h) {
		return p.content(len(p.items)-1, e.Size)
	}
	p.tape.object, p.tape.passed = true, 0
	err = p.content(len(p.items)-1, e.Size)
	p.tape.object = false
	if err == nil && p.tape.passed != e.Size {
		err = corrupt(path, "does not stand in the tar as it is read")
	}
	p.tape.scribe.object(len(p.items)-1, e.Size)
	return err
}

// isSparse reports whether the tar has only parts of the file. A recipe then keeps these as
// they are.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (p *parser) add(e tree.Entry) error {
	p.meta += len(e.Path) + len(e.Link)
	for _, a := range e.Xattrs {
		p.meta += len(a.Name) + len(a.Value)
	}
	if e.Size <= tree.InlineMax {
		p.meta += int(e.Size)
	}
	if p.meta > p.opt.maxMeta {
		return errs.Newf(errs.Corrupt, op, "", "the paths and attributes of the layer come to more than "+strconv.Itoa(p.opt.maxMeta)+" bytes")
	}
	p.items = append(p.items, e)
	return nil
}

// content takes the bytes of a regular file where they belong by its size.
func (p *parser) content(item int, size int64) error {
	path := p.items[item].Path
	if size > p.opt.MaxUnpacked-p.unpacked {
		return corrupt(path, "the files of the layer come to more than "+strconv.FormatInt(p.opt.MaxUnpacked, 10)+" bytes")
	}
	p.unpacked += size
	switch {
	case size <= tree.InlineMax:
		b := p.inline(int(size))
		p.items[item].Inline = b
		return p.fill(path, b)
	case size <= maxSmall:
		b, err := p.store.space(item, int(size))
		if err != nil {
			return err
		}
		return p.fill(path, b)
	}
	c := &content{r: p.tar, left: size}
	d, err := p.store.objects.PutReader(c, size)
	switch {
	case c.err != nil:
		return p.fault(path, c.err)
	case err != nil:
		return err
	case c.left > 0:
		return errs.Newf(errs.Internal, op, shown(path), "the object store did not read all of the file")
	}
	p.items[item].Object = d
	return nil
}

func (p *parser) fill(path string, b []byte) error {
	if _, err := io.ReadFull(p.tar, b); err != nil {
		return p.fault(path, err)
	}
	return nil
}

func (p *parser) inline(n int) []byte {
	if len(p.slab) < n {
		p.slab = make([]byte, 64<<10)
	}
	b := p.slab[:n:n]
	p.slab = p.slab[n:]
	return b
}

// content is a file in the tar, from which neither less nor more than its size comes.
type content struct {
	r    io.Reader
	left int64
	err  error // the tar's, which the store may have wrapped
}

func (c *content) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	if err == io.EOF && c.left == 0 {
		err = nil
	}
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		c.err = err
	}
	return n, err
}

// Kinds of marks: names that stand for a removal (image-spec, layer.md, "Whiteouts").
type markKind uint8

const (
	markNone markKind = iota
	markWhiteout
	markOpaque
	markIgnored
)

type mark struct {
	kind markKind
	path string // what is removed, or emptied
}

const (
	whPrefix   = ".wh."
	whReserved = ".wh..wh." // AUFS kept its own files under such names
	whOpaque   = ".wh..wh..opq"
)

// markOf finds out whether path is a mark.
func markOf(path string) (mark, error) {
	if !strings.Contains(path, whPrefix) {
		return mark{}, nil
	}
	dir := tree.Parent(path)
	for d := dir; d != ""; d = tree.Parent(d) {
		switch base := d[strings.LastIndexByte(d, '/')+1:]; {
		case strings.HasPrefix(base, whReserved):
			return mark{kind: markIgnored}, nil // .wh..wh.plnk/ holds AUFS' hard links
		case strings.HasPrefix(base, whPrefix):
			return mark{}, corrupt(path, "is below the name of a whiteout")
		}
	}
	base := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case base == whOpaque:
		return mark{markOpaque, dir}, nil
	case strings.HasPrefix(base, whReserved):
		return mark{kind: markIgnored}, nil
	case !strings.HasPrefix(base, whPrefix):
		return mark{}, nil
	}
	switch gone := base[len(whPrefix):]; gone {
	case "", ".", "..":
		return mark{}, corrupt(path, "is a whiteout of no name")
	default:
		return mark{markWhiteout, strings.TrimPrefix(dir+"/"+gone, "/")}, nil
	}
}

// convert reads the metadata; why says what is wrong with it.
func convert(h *tar.Header, path string) (e tree.Entry, why string) {
	e.Path = path
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Type, e.Size = tree.Regular, h.Size
	case tar.TypeDir:
		e.Type = tree.Dir
	case tar.TypeSymlink:
		e.Type, e.Link = tree.Symlink, h.Linkname
	case tar.TypeLink:
		link, err := tree.Clean(h.Linkname)
		if err != nil || link == "" {
			return e, "is a hard link to no possible path: " + shown(h.Linkname)
		}
		return tree.Entry{Path: path, Type: tree.Hardlink, Link: link}, rootFault(path)
	case tar.TypeChar, tar.TypeBlock:
		e.Type = tree.Char
		if h.Typeflag == tar.TypeBlock {
			e.Type = tree.Block
		}
		// dev_t inside the kernel has 12 and 20 bits (linux/kdev_t.h).
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return e, "has a device number out of range"
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Type = tree.Fifo
	default:
		return e, "is of a type that layers do not have: " + strconv.QuoteRune(rune(h.Typeflag))
	}
	switch {
	case e.Type != tree.Dir && path == "":
		return e, rootFault(path)
	case h.Size < 0:
		return e, "has a negative size"
	case h.Mode < 0:
		return e, "has a negative mode"
	// The last number means "leave it as it is" to chown and is no user.
	case h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32:
		return e, "has an owner out of range"
	case e.Type == tree.Symlink && (e.Link == "" || len(e.Link) >= tree.PathMax || strings.IndexByte(e.Link, 0) >= 0):
		return e, "is a symlink with a target that none can have"
	}
	e.Mode = uint16(h.Mode & 0o7777) // some writers leave the type in
	if e.Type == tree.Symlink {
		e.Mode = 0o777 // the mode of a link decides nothing and cannot be set: every file system shows this
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	e.MTime, e.NSec = h.ModTime.Unix(), uint32(h.ModTime.Nanosecond())
	e.Xattrs, why = xattrs(h.PAXRecords)
	return e, why
}

func rootFault(path string) string {
	if path == "" {
		return "is the root and not a directory"
	}
	return ""
}
