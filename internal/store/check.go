package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// Problem is something that Check found: what was looked at, and what is wrong with it.
type Problem = *errs.Error

// Check reads the whole store and compares every byte with its digest: of each image the
// manifest, configuration, layers and objects; of each hold and tree what it leads to.
// Others may work on the store meanwhile; what seems wrong is looked at once more while
// nobody can change it. Objects and records that nothing leads to are no problem.
func (s *Store) Check(ctx context.Context) ([]Problem, error) {
	c := checker{s: s, ctx: ctx, good: objectSet{}}
	if len(c.run()) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	unlock, err := s.exclusive()
	if err != nil {
		return nil, s.wrap("check store", s.dir, err)
	}
	defer unlock()
	problems := c.run()
	if err := ctx.Err(); err != nil {
		return nil, errs.New(errs.Canceled, "check store", s.dir, err)
	}
	return problems, nil
}

// checker is one run of Check.
type checker struct {
	s        *Store
	ctx      context.Context
	good     objectSet // objects that were read and found right
	problems []Problem
}

func (c *checker) run() []Problem {
	c.problems = nil
	images, err := c.s.Images()
	c.note("check images", "", err)
	for _, im := range images {
		c.image(im)
	}
	holds, err := c.s.Holds()
	c.note("check holds", "", err)
	for _, h := range holds {
		c.hold(h)
	}
	c.trees()
	c.names()
	return c.problems
}

// note adds a problem, if err is one.
func (c *checker) note(op, object string, err error) {
	if err != nil {
		c.problems = append(c.problems, errs.New(errs.KindOf(err), op, object, err))
	}
}

func (c *checker) image(im Image) {
	const op = "check image"
	name := im.Ref
	if name == "" {
		name = string(im.Descriptor.Digest)
	}
	if err := c.s.complete(im.Descriptor.Digest); err != nil {
		c.note(op, name, err)
		return
	}
	found, err := c.s.layout.Content(im.Descriptor.Digest)
	c.note(op, name, err)
	for _, p := range found.Images {
		if c.s.imageComplete(p) != nil {
			continue // of another platform, here in part; one is complete
		}
		for _, d := range p.Layers {
			c.layer(op, name, d)
		}
	}
}

func (c *checker) layer(op, name string, d oci.Digest) {
	x, err := c.s.Layer(d)
	c.note(op, name, err)
	if err != nil {
		return
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		id, ok := idOf(e.Object)
		if !ok || c.good.has(id) || c.ctx.Err() != nil {
			continue
		}
		if err := c.object(e); err != nil {
			c.note(op, name, errs.Wrap("file", "/"+e.Path, err))
			continue
		}
		c.good[id] = struct{}{}
	}
}

// object compares an object with what e says of it.
func (c *checker) object(e *tree.Entry) error {
	f, err := c.s.OpenObject(e.Object)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if errors.Is(err, unix.EIO) { // from a bad disk, or of a page that is not as it was sealed
		return errs.New(errs.Corrupt, "read object", string(e.Object), err).WithHint(hintDamaged)
	}
	if err != nil {
		return errs.Wrap("read object", string(e.Object), err)
	}
	if n != e.Size || !e.Object.Matches(h) {
		return errs.Newf(errs.Corrupt, "read object", string(e.Object), "the bytes on disk are others").WithHint(hintDamaged)
	}
	return nil
}

const hintDamaged = "remove the images that have it and pull them again; if this comes back, check the disk"

func (c *checker) hold(h Hold) {
	if h.Manifest != "" {
		c.note("check hold of", h.Owner, c.s.complete(h.Manifest))
	}
	for _, d := range h.Layers {
		c.layer("check hold of", h.Owner, d)
	}
	if h.Tree == "" {
		return
	}
	k, ok := c.s.readTreeKey(h.Tree)
	if !ok {
		c.note("check hold of", h.Owner, errs.New(errs.NotFound, "find tree", h.Tree, nil))
		return
	}
	for _, d := range k.layers() {
		c.layer("check hold of", h.Owner, d)
	}
}

func (c *checker) trees() {
	ids, err := c.s.list("trees")
	c.note("check trees", "", err)
	for _, id := range ids {
		k, ok := c.s.readTreeKey(id)
		if !ok {
			if left, err := exists(c.s.path("trees", id)); left || err != nil {
				c.note("check tree", id, errs.Newf(errs.Corrupt, "", "", "its key is missing or damaged"))
			}
			continue
		}
		if _, ok := c.s.Tree(k); !ok {
			c.note("check tree", id, errs.New(errs.NotFound, "find", k.kind().payload(), nil))
		}
	}
}

// names looks for files that are not the store's.
func (c *checker) names() {
	names, err := c.s.list(".")
	c.note("check store", "", err)
	known := []string{"format", "oci-layout", "index.json", "blobs", "objects", "layers", "trees", "leases", "tmp", "boot", "reserve", "lock"}
	for _, n := range names {
		if !slices.Contains(known, n) {
			c.foreign(n)
		}
	}
	for i := range objectDirs {
		dir := objectDir(i)
		names, err := c.s.list("objects", dir)
		c.note("check objects", dir, err)
		for _, n := range names {
			if _, ok := parseObject(dir, n); !ok {
				c.foreign("objects/" + dir + "/" + n)
			}
		}
	}
	names, err = c.s.list("layers")
	c.note("check layers", "", err)
	for _, n := range names {
		if _, ok := layerOf(n); !ok {
			c.foreign("layers/" + n)
		}
	}
}

// foreign notes a file that is not the store's, unless it is just passing.
func (c *checker) foreign(name string) {
	_, err := os.Lstat(c.s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = errs.Newf(errs.Invalid, "", "", "this file is not the store's").WithHint("remove it, if nobody knows what it is for")
	}
	c.note("check store", name, err)
}
