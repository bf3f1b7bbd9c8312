package supply

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/layer"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
	"github.com/cortenhq/corten/internal/seal"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/tree"
)

// parallel is how many layers are on their way at once. Each keeps two processors busy by
// itself; the others fill the pauses, and the memory that one takes is some 10 MB.
const parallel = 3

// fetch is one image on its way in. All it puts into the store is under the lease until
// a name leads to it.
type fetch struct {
	lib   *image.Library
	from  origin
	lease *store.Lease
	want  *oci.Platform // nil: this machine's
	tell  func(image.Event)

	blobs    []blob // index, manifest and configuration as they came
	manifest oci.Manifest
	image    image.Image
	fresh    map[oci.Digest]*tree.Index // layers that were not here, by diff id
	book     *seal.Book                 // of objects that were stored
	kind     store.TreeKind
	key      store.TreeKey
	drawn    *image.Drawing // nil: the tree is here
}

// blob is a document of an image with its name.
type blob struct {
	digest oci.Digest
	raw    []byte
}

// begin is a fetch that knows nothing of its image yet.
func begin(lib *image.Library, lease *store.Lease) *fetch {
	return &fetch{lib: lib, lease: lease, tell: func(image.Event) {}, book: lib.Book()}
}

// run brings the image that target, whose bytes are raw, leads to, with all that a
// container needs of it. Then it only lacks a name.
func (f *fetch) run(ctx context.Context, target oci.Descriptor, raw []byte) (image.Image, error) {
	f.image.Target = target
	if err := f.describe(ctx, target, raw); err != nil {
		return image.Image{}, err
	}
	return f.settle(ctx)
}

// settle stores what was described, with layers and tree.
func (f *fetch) settle(ctx context.Context) (image.Image, error) {
	var err error
	if f.kind, f.key, err = f.lib.TreeKey(f.image.Layers); err != nil {
		return image.Image{}, err
	}
	for _, b := range f.blobs {
		if err := f.lease.PutBlob(b.digest, b.raw); err != nil {
			return image.Image{}, err
		}
	}
	if err := f.content(ctx); err != nil {
		return image.Image{}, err
	}
	if f.drawn != nil {
		if _, err := f.drawn.Put(f.lease, f.kind, f.key); err != nil {
			return image.Image{}, err
		}
	}
	f.tell(image.Event{Stage: image.Arrived})
	return f.image, nil
}

// describe reads the documents: perhaps an index, the manifest, the configuration.
func (f *fetch) describe(ctx context.Context, d oci.Descriptor, raw []byte) error {
	f.blobs = append(f.blobs, blob{d.Digest, raw})
	if oci.IsIndex(d.MediaType) {
		if len(f.blobs) > 3 { // an index of indexes of indexes
			return errs.Newf(errs.Invalid, "read index", string(d.Digest), "it leads to indexes only")
		}
		return f.descend(ctx, raw)
	}
	var err error
	if f.manifest, err = registry.ParseManifest(raw); err != nil {
		return err
	}
	f.image.Manifest, f.image.ID = d.Digest, f.manifest.Config.Digest
	if raw, err = f.from.Config(ctx, f.manifest.Config); err != nil {
		return err
	}
	f.blobs = append(f.blobs, blob{f.image.ID, raw})
	if err := f.image.Describe(raw); err != nil {
		return err
	}
	return f.check()
}

func (f *fetch) descend(ctx context.Context, raw []byte) error {
	x, err := registry.ParseIndex(raw)
	if err != nil {
		return err
	}
	want := image.Host()
	if f.want != nil {
		want = *f.want
	}
	d, err := oci.Select(x, want)
	if err != nil {
		return err
	}
	if raw, err = f.from.Manifest(ctx, d); err != nil {
		return err
	}
	if !oci.IsIndex(d.MediaType) && !oci.IsManifest(d.MediaType) {
		d.MediaType = oci.TypeManifest // ParseManifest looks at what it is
	}
	return f.describe(ctx, d, raw)
}

// check compares manifest and configuration before anything large is fetched.
func (f *fetch) check() error {
	const op = "read image configuration"
	bad := func(why string) error { return errs.Newf(errs.Corrupt, op, string(f.image.ID), why) }
	if len(f.image.Layers) != len(f.manifest.Layers) {
		return bad("it lists " + strconv.Itoa(len(f.image.Layers)) + " layers, the manifest " + strconv.Itoa(len(f.manifest.Layers)))
	}
	for _, d := range f.image.Layers {
		if !d.Valid() {
			return bad("a layer's diff id is not a digest")
		}
	}
	p := f.image.Platform
	if p.OS != "" && p.OS != "linux" {
		return errs.Newf(errs.Unsupported, "read image", string(f.image.ID), "it is for "+p.String())
	}
	if f.want == nil {
		return nil
	}
	return image.CheckPlatform(p, *f.want)
}

// content makes layers and tree be here, but for the tree's last step.
func (f *fetch) content(ctx context.Context) error {
	missing, err := f.missing()
	if err != nil {
		return err
	}
	f.fresh = map[oci.Digest]*tree.Index{}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	arrived := make(chan *tree.Index, len(missing)) // all fit: nobody waits for the disk
	recorded := make(chan error, 1)
	go func() {
		// What has arrived is kept even if the user gives up or another layer is bad: the next
		// pull goes on from there.
		err := f.record(context.WithoutCancel(ctx), arrived)
		if err != nil {
			cancel(err)
		}
		recorded <- err
	}()
	err = f.fetchAll(ctx, cancel, missing, arrived)
	if err == nil {
		err = f.draw(ctx)
	}
	if rerr := <-recorded; err == nil || rerr != nil {
		err = rerr
	}
	return err
}

// draw makes the tree, if it is not here.
func (f *fetch) draw(ctx context.Context) error {
	path, ok, err := f.lease.UseTree(f.key)
	if err == nil && ok && f.kind == store.Sealed {
		_, ok, err = seal.Of(path)
	}
	if err == nil && !ok {
		f.drawn, err = f.lib.Draw(ctx, f.kind, f.image.Layers, f.fresh, f.book)
	}
	f.fresh = nil
	return err
}

// parcel is a layer to be fetched.
type parcel struct {
	desc   oci.Descriptor
	diffID oci.Digest
}

// missing lists the layers that are not here, the largest first: then the last ones on
// their way are small. Layers that are here stay, for the lease relies on them.
func (f *fetch) missing() ([]parcel, error) {
	var list []parcel
	seen := map[oci.Digest]bool{}
	for i, d := range f.image.Layers {
		desc := f.manifest.Layers[i]
		if seen[d] {
			continue
		}
		seen[d] = true
		have, err := f.lease.UseLayer(d)
		if err != nil {
			return nil, err
		}
		if have {
			f.tell(image.Event{Stage: image.Present, Layer: desc.Digest})
			continue
		}
		f.tell(image.Event{Stage: image.Waiting, Layer: desc.Digest, Total: desc.Size})
		list = append(list, parcel{desc, d})
	}
	slices.SortStableFunc(list, func(a, b parcel) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	return list, nil
}

// fetchAll fetches layers side by side and sends each on. It closes the channel when
// nothing is under way any more.
func (f *fetch) fetchAll(ctx context.Context, cancel context.CancelCauseFunc, list []parcel, arrived chan<- *tree.Index) error {
	var (
		next int
		mu   sync.Mutex // for next and f.fresh
		work sync.WaitGroup
	)
	take := func() (parcel, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(list) || ctx.Err() != nil {
			return parcel{}, false
		}
		next++
		return list[next-1], true
	}
	for range min(parallel, len(list)) {
		work.Go(func() {
			for p, ok := take(); ok; p, ok = take() {
				x, err := f.layer(ctx, p)
				if err != nil {
					cancel(errs.Wrap("fetch layer", p.desc.Digest.Short(), err))
					return
				}
				mu.Lock()
				f.fresh[p.diffID] = x
				mu.Unlock()
				f.tell(image.Event{Stage: image.Complete, Layer: p.desc.Digest})
				arrived <- x
			}
		})
	}
	work.Wait()
	close(arrived)
	return cause(ctx)
}

// cause is why ctx ended: the first failure, or the user.
func cause(ctx context.Context) error {
	err := context.Cause(ctx)
	if err == context.Canceled || err == context.DeadlineExceeded {
		return errs.New(errs.Canceled, "", "", err)
	}
	return err
}

// layer reads one layer: its files become objects as they come.
func (f *fetch) layer(ctx context.Context, p parcel) (*tree.Index, error) {
	src, err := f.from.Blob(ctx, p.desc)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	verified := layer.Verify(&counted{r: src, tell: f.tell, at: image.Event{Stage: image.Fetching, Layer: p.desc.Digest, Total: p.desc.Size}},
		p.desc.Digest, p.desc.Size)
	tar, _, err := layer.Decompress(verified, p.desc.MediaType)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	x, err := f.read(ctx, tar, p.diffID)
	if err != nil {
		return nil, err
	}
	// What follows the compressed tar counts for the digest too.
	_, err = io.Copy(io.Discard, verified)
	return x, err
}

// read reads the tar of a layer, whose diff id may be "". Its files become objects, and where trees are
// sealed they are sealed beside: the layer is recorded when all of them are, so the same sync makes
// both durable.
func (f *fetch) read(ctx context.Context, tar io.Reader, diffID oci.Digest) (*tree.Index, error) {
	opt := layer.Options{DiffID: diffID}
	if kind, err := f.lib.TreeKind(); err != nil || kind != store.Sealed {
		return layer.Read(ctx, tar, f.lease, opt)
	}
	batch := f.book.Batch(ctx)
	x, err := layer.Read(ctx, tar, sealing{f.lease, batch}, opt)
	if serr := batch.Wait(); err == nil {
		err = serr
	}
	return x, err
}

// sealing is a lease that has objects sealed as they come.
type sealing struct {
	*store.Lease
	batch *seal.Batch
}

func (s sealing) PutBytes(b []byte) (oci.Digest, error) {
	d, err := s.Lease.PutBytes(b)
	if err == nil {
		s.batch.Add(d)
	}
	return d, err
}

func (s sealing) PutReader(r io.Reader, size int64) (oci.Digest, error) {
	d, err := s.Lease.PutReader(r, size)
	if err == nil {
		s.batch.Add(d)
	}
	return d, err
}

// record makes layers durable as they arrive: those that came while the last ones were
// being synced go together. So a killed pull loses little, and the disk works all the time.
func (f *fetch) record(ctx context.Context, arrived <-chan *tree.Index) error {
	for x := range arrived {
		batch := []*tree.Index{x}
		for more := true; more; {
			select {
			case x, more = <-arrived:
				if more {
					batch = append(batch, x)
				}
			default:
				more = false
			}
		}
		if err := f.lease.PutLayers(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// counted tells how far a stream has come.
type counted struct {
	r    io.Reader
	tell func(image.Event)
	at   image.Event
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.at.Done += int64(n)
		c.tell(c.at)
	}
	return n, err
}
