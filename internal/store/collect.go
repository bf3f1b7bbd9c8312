package store

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store/layout"
)

// Freed is what a collection removed.
type Freed struct {
	Bytes   int64 // as allocated on the disk
	Objects int
	Layers  int
	Trees   int
	Blobs   int
	Leases  int // of dead processes, and holds whose owner is gone
}

// Collect removes what nothing leads to. Any number of processes may put in, use and
// collect meanwhile, and this one may be killed at any point: it removes names before the
// things named, so that what is left over is only not yet removed.
//
// It goes in two steps. A record (blob, layer, tree) lives as long as an image, a hold or a
// lease leads to it: that is decided and done under one lock, since there are few. An
// object lives as long as a recorded layer or a lease names it: that is worked out without
// a lock, and confirmed under the lock for a few objects at a time.
//
// If an image or layer cannot be read, what it leads to cannot be known, and Collect
// removes nothing of that kind and says so.
func (s *Store) Collect(ctx context.Context) (Freed, error) {
	c := collector{s: s, ctx: ctx}
	defer c.close()
	err := c.records()
	if err == nil {
		// A lost record whose objects come back after a power cut is only garbage; a record
		// that comes back without its objects would be a lie.
		err = disk.SyncDir(s.path("layers"))
	}
	if err == nil {
		err = c.objects()
	}
	for _, path := range c.litter { // may be large, and is nobody's: no lock
		c.freed.Bytes += allocated(path)
		if rerr := os.RemoveAll(path); err == nil {
			err = rerr
		}
	}
	if err == nil {
		// On a disk that is still full there is no reserve; the next Collect tries again.
		if err = s.putReserve(); errs.Is(err, errs.NoSpace) {
			err = nil
		}
	}
	return c.freed, s.wrap("collect garbage", "", err)
}

// collector is one run of Collect.
type collector struct {
	s      *Store
	ctx    context.Context
	freed  Freed
	making []string // names in tmp/
	litter []string // paths to remove at the end

	blobs, layers map[oci.Digest]bool
	trees         map[string]bool // by id
	stacks        map[string]bool // layers of a live image, from the lowest, joined

	recorded map[oci.Digest]bool // layers whose objects are in live
	live     objectSet
	leased   objectSet
	journals map[string]*journal // by file name
}

// journal is a lease, read up to an offset.
type journal struct {
	f    *os.File
	rest string // the beginning of a line that is not whole yet
}

func (c *collector) close() {
	for _, j := range c.journals {
		j.f.Close()
	}
}

// records removes records that nothing leads to, and what dead processes left.
func (c *collector) records() error {
	dead, err := c.s.buryDead()
	c.freed.Leases += dead
	if err != nil {
		return err
	}
	unlock, err := c.s.exclusive()
	if err != nil {
		return err
	}
	defer unlock()
	// Before the leases: who makes something has a lease already.
	if c.making, err = c.s.list("tmp"); err != nil {
		return err
	}
	if err := c.mark(); err != nil {
		return err
	}
	// Trees first: a tree leads to layers. index.json, which leads to all, was written before.
	for _, sweep := range []func() error{c.sweepTrees, c.sweepBlobs, c.sweepLayers, c.sweepTemp} {
		if err := sweep(); err != nil {
			return err
		}
	}
	return nil
}

// mark finds out what is led to.
func (c *collector) mark() error {
	c.blobs, c.layers = map[oci.Digest]bool{}, map[oci.Digest]bool{}
	c.trees, c.stacks = map[string]bool{}, map[string]bool{}
	c.live, c.leased = objectSet{}, objectSet{}
	c.recorded, c.journals = map[oci.Digest]bool{}, map[string]*journal{}
	images, err := c.s.Images()
	if err != nil {
		return err
	}
	for _, im := range images {
		if err := c.markWhole(im.Descriptor.Digest); err != nil {
			return errs.New(errs.KindOf(err), "follow image", im.Ref, err).
				WithHint("pull the image again, or remove it")
		}
	}
	if err := c.buryHolds(); err != nil {
		return err
	}
	holds, err := c.s.Holds()
	if err != nil {
		return err
	}
	for _, h := range holds {
		if h.Manifest != "" {
			if err := c.markWhole(h.Manifest); err != nil {
				return errs.New(errs.KindOf(err), "follow image of", h.Owner, err).
					WithHint("pull the image again, or remove the " + h.Owner)
			}
		}
		if h.Tree != "" {
			c.trees[h.Tree] = true
		}
		for _, d := range h.Layers {
			c.layers[d] = true
		}
	}
	if err := c.readJournals(); err != nil {
		return err
	}
	return c.markTrees()
}

// markWhole marks the manifest or index d with what it leads to. Of an index some images
// may be here in part, as when they are being pulled; one must be whole.
func (c *collector) markWhole(d oci.Digest) error {
	found, err := c.markImage(d)
	if err != nil {
		return err
	}
	err = noImageIn(d)
	for _, im := range found.Images {
		if im.Fault == nil {
			return nil
		}
		err = im.Fault
	}
	return err
}

// markImage marks d as far as it is here.
func (c *collector) markImage(d oci.Digest) (layout.Content, error) {
	found, err := c.s.layout.Content(d)
	if err != nil {
		return layout.Content{}, err
	}
	for _, b := range found.Blobs {
		c.blobs[b] = true
	}
	for _, im := range found.Images {
		if im.Fault != nil && !errs.Is(im.Fault, errs.NotFound) {
			return layout.Content{}, im.Fault
		}
		for _, l := range im.Layers {
			c.layers[l] = true
		}
		c.stacks[stack(im.Layers)] = true
	}
	return found, nil
}

// stack makes layers comparable.
func stack(layers []oci.Digest) string {
	var b strings.Builder
	for _, d := range layers {
		b.WriteString(string(d))
	}
	return b.String()
}

// markTrees marks the trees of live images, and the layers of all live trees.
func (c *collector) markTrees() error {
	ids, err := c.s.list("trees")
	if err != nil {
		return err
	}
	for _, id := range ids {
		k, ok := c.s.readTreeKey(id)
		if !ok {
			if c.trees[id] {
				return errs.Newf(errs.Corrupt, "read tree", id, "its key is damaged").
					WithHint("remove the containers that use it")
			}
			continue
		}
		if c.stacks[stack(k.layers())] {
			c.trees[id] = true
		}
		if c.trees[id] {
			for _, d := range k.layers() {
				c.layers[d] = true
			}
		}
	}
	return nil
}

// buryHolds removes holds whose owner's directory is gone.
func (c *collector) buryHolds() error {
	names, err := c.s.list("leases")
	if err != nil {
		return err
	}
	for _, n := range names {
		path := c.s.path("leases", n)
		switch {
		case strings.HasSuffix(n, holdSuffix):
			h, err := c.s.readHold(n)
			gone := errs.Is(err, errs.NotFound)
			if err == nil {
				gone, err = c.s.ownerGone(h)
			}
			if err != nil && !gone {
				return err
			}
			if !gone {
				continue
			}
			c.freed.Leases++
		case disk.IsTemp(n): // of a hold in the making, which takes the lock
		default:
			continue
		}
		if err := remove(path); err != nil {
			return err
		}
	}
	return nil
}

// readJournals reads what was added to the leases of live processes since the last time.
// The exclusive lock is held: no process is between writing a line and looking.
func (c *collector) readJournals() error {
	names, err := c.s.list("leases")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.HasSuffix(n, liveSuffix) {
			continue
		}
		j := c.journals[n]
		if j == nil {
			f, err := os.Open(c.s.path("leases", n))
			if errors.Is(err, fs.ErrNotExist) {
				continue // ended since
			}
			if err != nil {
				return err
			}
			j = &journal{f: f}
			c.journals[n] = j
		}
		b, err := io.ReadAll(j.f)
		if err != nil {
			return err
		}
		lines := j.rest + string(b)
		end := strings.LastIndexByte(lines, '\n') + 1
		j.rest = lines[end:] // of a process killed in the middle
		for line := range strings.Lines(lines[:end]) {
			if err := c.markLine(strings.TrimSuffix(line, "\n")); err != nil {
				return errs.Wrap("read lease", j.f.Name(), err)
			}
		}
	}
	return nil
}

func (c *collector) markLine(line string) error {
	word, name, _ := strings.Cut(line, " ")
	d := oci.Digest(name)
	switch word + " " {
	case "# ":
	case lineObject:
		if id, ok := idOf(d); ok {
			c.leased[id] = struct{}{}
			return nil
		}
		return errs.Newf(errs.Corrupt, "", "", "a line is damaged: "+line)
	case lineBlob:
		c.blobs[d] = true
	case lineLayer:
		c.layers[d] = true
	case lineTree:
		c.trees[name] = true
	case lineManifest:
		_, err := c.markImage(d)
		if errs.Is(err, errs.NotFound) {
			return nil // the lease's owner found that out too
		}
		return err
	default:
		return errs.Newf(errs.Corrupt, "", "", "a line is damaged: "+line)
	}
	return nil
}

func (c *collector) sweepTrees() error {
	ids, err := c.s.list("trees")
	if err != nil {
		return err
	}
	for _, id := range ids {
		if c.trees[id] || !isTreeID(id) {
			continue
		}
		path := c.s.path("trees", id)
		// Out of sight in one step. The rest, thousands of files in a directory tree, is removed
		// when the lock is free again; in tmp/ whoever comes next would do it too.
		dead := c.s.path("tmp", "dead-"+rand.Text())
		if err := os.Rename(path, dead); err != nil {
			return err
		}
		c.litter = append(c.litter, dead)
		c.freed.Trees++
	}
	return nil
}

func (c *collector) sweepBlobs() error {
	for _, algo := range layout.Algorithms() {
		names, err := c.s.list("blobs", algo)
		if err != nil {
			return err
		}
		for _, n := range names {
			d, err := oci.ParseDigest(algo + ":" + n)
			if err != nil || c.blobs[d] {
				continue
			}
			if err := c.removeFile(c.s.layout.BlobPath(d), &c.freed.Blobs); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) sweepLayers() error {
	names, err := c.s.list("layers")
	if err != nil {
		return err
	}
	for _, n := range names {
		d, ok := layerOf(n)
		if !ok || c.layers[d] {
			continue
		}
		if err := c.removeFile(c.s.layerPath(d), &c.freed.Layers); err != nil {
			return err
		}
	}
	return nil
}

// sweepTemp lists what was in the making and has no live lease to say who makes it.
func (c *collector) sweepTemp() error {
	for _, n := range c.making {
		if c.journals[n+liveSuffix] == nil {
			c.litter = append(c.litter, c.s.path("tmp", n))
		}
	}
	names, err := c.s.list(".")
	for _, n := range names {
		if disk.IsTemp(n) { // of index.json, written under this lock
			c.litter = append(c.litter, c.s.path(n))
		}
	}
	return err
}

// removeFile removes a file and counts it.
func (c *collector) removeFile(path string, count *int) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == unix.ENOENT {
		return nil // another collection was here first
	} else if err != nil {
		return &fs.PathError{Op: "look at", Path: path, Err: err}
	}
	if err := remove(path); err != nil {
		return err
	}
	*count++
	c.freed.Bytes += st.Blocks * 512
	return nil
}

// allocated is how many bytes all files under path take on the disk. What goes away
// meanwhile is not counted.
func allocated(path string) (sum int64) {
	filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(p, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// lockTime is how long, about, objects are removed under one lock: a container that starts
// meanwhile waits no longer.
const lockTime = 2 * time.Millisecond

// objects removes objects that no recorded layer and no lease names.
func (c *collector) objects() error {
	if err := c.readLayers(); err != nil {
		return err
	}
	for i := range objectDirs {
		dir := objectDir(i)
		names, err := c.s.list("objects", dir)
		if err != nil {
			return err
		}
		var dead []string
		for _, n := range names {
			if id, ok := parseObject(dir, n); ok && !c.live.has(id) && !c.leased.has(id) {
				dead = append(dead, n)
			}
		}
		for len(dead) > 0 {
			if err := c.ctx.Err(); err != nil {
				return errs.New(errs.Canceled, "", "", err)
			}
			if dead, err = c.removeObjects(dir, dead); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeObjects removes some of the objects and returns the rest.
func (c *collector) removeObjects(dir string, dead []string) ([]string, error) {
	unlock, err := c.s.exclusive()
	if err != nil {
		return nil, err
	}
	defer unlock()
	start := time.Now()
	// What was relied on since it was looked at, by a layer or by a lease, lives.
	if err := c.readLayers(); err != nil {
		return nil, err
	}
	if err := c.readJournals(); err != nil {
		return nil, err
	}
	for i, n := range dead {
		if id, _ := parseObject(dir, n); c.live.has(id) || c.leased.has(id) {
			continue
		}
		if err := c.removeFile(c.s.path("objects", dir, n), &c.freed.Objects); err != nil {
			return nil, err
		}
		if time.Since(start) > lockTime {
			return dead[i+1:], nil
		}
	}
	return nil, nil
}

// readLayers adds the objects of layers recorded since the last time. Layers removed since
// still count, until the next Collect.
func (c *collector) readLayers() error {
	names, err := c.s.list("layers")
	if err != nil {
		return err
	}
	for _, n := range names {
		d, ok := layerOf(n)
		if !ok || c.recorded[d] {
			continue
		}
		x, err := c.s.Layer(d)
		if errs.Is(err, errs.NotFound) {
			continue // removed by another collection
		}
		if err != nil {
			return err
		}
		c.live.addAll(x)
		c.recorded[d] = true
	}
	return nil
}
