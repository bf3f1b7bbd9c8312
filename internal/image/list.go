package image

import (
	"context"
	"errors"
	"slices"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
)

// Summary is a line of a listing: a name of an image, or an image without one.
type Summary struct {
	Ref        oci.Ref // zero: it has no name
	Image      Image
	Size       int64 // bytes of its files, each once, shared with other images or not
	Containers int   // that hold it
}

// List returns what the filter lets through, the newest image first. What cannot be read
// is left out and told by the error; the rest is right all the same.
func (l *Library) List(ctx context.Context, f Filter) ([]Summary, error) {
	entries, err := l.store.Images()
	if err != nil {
		return nil, err
	}
	held, err := l.held()
	if err != nil {
		return nil, err
	}
	pass, err := l.pass(f)
	if err != nil {
		return nil, err
	}
	var (
		list     []Summary
		problems []error
		sizes    = map[oci.Digest]int64{}
	)
	for _, e := range entries {
		s, err := l.summary(ctx, e, pass, sizes)
		if errs.Is(err, errs.NotFound) && l.removed(e) {
			continue // since we read the names
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if s != nil {
			s.Containers = held[s.Image.Manifest]
			list = append(list, *s)
		}
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return b.Image.Created.Compare(a.Image.Created) })
	return list, errors.Join(problems...)
}

// removed reports whether an entry is no more.
func (l *Library) removed(e store.Image) bool {
	list, err := l.store.Images()
	return err == nil && !slices.ContainsFunc(list, func(im store.Image) bool {
		return im.Ref == e.Ref && im.Descriptor.Digest == e.Descriptor.Digest
	})
}

// summary is nil for an entry that the filter keeps back.
func (l *Library) summary(ctx context.Context, e store.Image, pass func(oci.Ref, Image) bool, sizes map[oci.Digest]int64) (*Summary, error) {
	s := &Summary{Image: Image{Ref: e.Ref, Target: e.Descriptor}}
	name := e.Ref
	if e.Ref == "" {
		name = string(e.Descriptor.Digest)
	} else {
		var err error
		if s.Ref, err = oci.ParseRef(e.Ref); err != nil {
			return nil, errs.Wrap("list image", e.Ref, err)
		}
	}
	if err := l.fill(&s.Image, e.Descriptor.Digest, nil); err != nil {
		return nil, errs.Wrap("list image", name, err)
	}
	if !pass(s.Ref, s.Image) {
		return nil, nil
	}
	size, ok := sizes[s.Image.Manifest]
	if !ok {
		var err error
		if size, err = l.size(ctx, s.Image); err != nil {
			return nil, errs.Wrap("measure image", name, err)
		}
		sizes[s.Image.Manifest] = size
	}
	s.Size = size
	return s, nil
}

// size is what the facts of the image's tree say. Only an image that has no tree of any
// kind, as after an upgrade, is measured.
func (l *Library) size(ctx context.Context, x Image) (int64, error) {
	for _, kind := range []store.TreeKind{store.Sealed, store.EROFS, store.Dir} {
		path, ok := l.store.Tree(store.NewTreeKey(kind, treeWriter, x.Layers))
		if !ok {
			continue
		}
		if f, err := readFacts(path); err == nil {
			return f.Bytes, nil
		}
	}
	t, err := l.merged(ctx, x.Layers, nil)
	if err != nil {
		return 0, err
	}
	return sizeOf(t), nil
}

// held counts the containers that hold a manifest.
func (l *Library) held() (map[oci.Digest]int, error) {
	holds, err := l.store.Holds()
	if err != nil {
		return nil, err
	}
	n := map[oci.Digest]int{}
	for _, h := range holds {
		if h.Manifest != "" {
			n[h.Manifest]++
		}
	}
	return n, nil
}
