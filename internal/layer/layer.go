// Package layer turns an image layer, a tar, into a layer index and the objects of its
// files.
//
// A layer comes over the network or from an archive as compressed bytes. Verify holds them
// to the digest and size that the manifest announced, Decompress finds out how they are
// packed, and Read makes one pass over the tar: it hashes the tar for the diff id, gives
// the content of files to the object store, and returns the sorted index. Nothing is
// unpacked: a path in a layer is a name in a list and never a place on the host's disk, so
// what a hostile tar can do is to be refused. Decompression, the diff id's hash, parsing and
// storing of files run at the same time, in bounded memory.
package layer

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// Objects is where the content of files goes. Both methods return the content's SHA-256
// name, and neither keeps what it was given.
type Objects interface {
	// PutBytes stores a file of up to 1 MiB. It is called from several goroutines at once.
	PutBytes(b []byte) (oci.Digest, error)
	// PutReader stores a larger file; r gives size bytes or fails.
	PutReader(r io.Reader, size int64) (oci.Digest, error)
}

// Options say what a layer may be. The zero value has the default limits.
type Options struct {
	DiffID      oci.Digest // the sha256 of the uncompressed tar, if it is known beforehand
	MaxEntries  int        // default 5,000,000
	MaxUnpacked int64      // bytes, for the tar and again for all its files; default 256 GiB

	// Recipe, if there is one, is given what Rebuild needs besides the objects to make the
	// same tar again. It is complete only when Read returns without an error.
	Recipe io.Writer

	maxMeta int // bytes; smaller than the constant in tests
}

const (
	defaultMaxEntries  = 5_000_000
	defaultMaxUnpacked = 256 << 30
	defaultMaxMeta     = 512 << 20 // bytes: paths, link targets, attributes and inline files of a layer
	maxSmall           = 1 << 20   // bytes: files up to this size pass through memory
)

const op = "read layer"

// Read reads an uncompressed tar to its end and returns its index. On any error there is
// no index; objects that were stored by then are harmless and left to garbage collection.
//
// Read returns after the goroutines it started have ended. One of them reads r, so when ctx
// ends, r's Read must too.
func Read(ctx context.Context, r io.Reader, objects Objects, opt Options) (*tree.Index, error) {
	opt.MaxEntries = cmp.Or(opt.MaxEntries, defaultMaxEntries)
	opt.MaxUnpacked = cmp.Or(opt.MaxUnpacked, defaultMaxUnpacked)
	opt.maxMeta = cmp.Or(opt.maxMeta, defaultMaxMeta)
	var rec *scribe
	if opt.Recipe != nil {
		var err error
		if rec, err = newScribe(opt.Recipe); err != nil {
			return nil, errs.Wrap("write recipe", "", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := newStream(ctx, r, opt.MaxUnpacked)
	p := &parser{
		opt:   opt,
		in:    in,
		tape:  tape{in: in, scribe: rec},
		store: newIngest(ctx, objects, cancel),
	}
	p.tar = tar.NewReader(&p.tape)
	err := p.run()
	if err != nil {
		cancel(err) // the first cause stays: a failed worker's
		err = context.Cause(ctx)
	}
	named, putErr := p.store.finish()
	in.wait()
	if err = cmp.Or(err, putErr); err != nil {
		return nil, inRead(err)
	}
	for _, n := range named {
		p.items[n.item].Object = n.object
	}
	x := &tree.Index{DiffID: oci.SHA256(in.sum), Size: in.size}
	if opt.DiffID != "" && x.DiffID != opt.DiffID {
		return nil, errs.Newf(errs.Corrupt, op, string(opt.DiffID), "the uncompressed layer is "+string(x.DiffID))
	}
	if rec != nil {
		if err := rec.finish(func(i int32) oci.Digest { return p.items[i].Object }, x.DiffID); err != nil {
			return nil, errs.Wrap("write recipe", "", err)
		}
	}
	if x.Entries, err = settle(p.items); err != nil {
		return nil, err
	}
	return x, nil
}

// inRead says where err came up, unless it says so itself.
func inRead(err error) error {
	if e := (*errs.Error)(nil); errors.As(err, &e) && e.Op == op {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errs.New(errs.Canceled, op, "", err)
	}
	return errs.Wrap(op, "", err)
}

// corrupt is an error about one entry of the layer.
func corrupt(path, why string) error {
	return errs.Newf(errs.Corrupt, op, shown(path), why)
}

// shown is a name for an error: quoted and cut, lest a hostile one plays with the terminal.
func shown(name string) string {
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return strconv.Quote(name)
}
