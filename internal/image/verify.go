package image

import (
	"context"
	"errors"

	"github.com/cortenhq/corten/internal/store"
)

// Verified is what a verification came to.
type Verified struct {
	Images int // with a name or without
	Sealed int // objects that had no seal, and have one now
}

// Verify reads all that is kept and compares it with its digests. If all of it is right, and trees are
// sealed here, what has no seal is sealed: of images from before there were seals, and of copies.
func (l *Library) Verify(ctx context.Context) (Verified, error) {
	problems, err := l.store.Check(ctx)
	if err != nil {
		return Verified{}, err
	}
	if len(problems) > 0 {
		all := make([]error, len(problems))
		for i, p := range problems {
			all[i] = p
		}
		return Verified{}, errors.Join(all...)
	}
	entries, err := l.store.Images()
	if err != nil {
		return Verified{}, err
	}
	v := Verified{Images: len(entries)}
	kind, err := l.TreeKind()
	if err != nil || kind != store.Sealed {
		return v, err
	}
	book := l.Book()
	for _, e := range entries {
		x := Image{Ref: e.Ref, Target: e.Descriptor}
		if err := l.fill(&x, e.Descriptor.Digest, nil); err != nil {
			return v, err
		}
		t, err := l.makeTree(ctx, x, book)
		if err == nil {
			_, err = t.Facts()
		}
		if err != nil {
			return v, err
		}
	}
	v.Sealed = book.Made()
	return v, nil
}
