// Package supply brings images: from a registry (Pull), from an archive (Load) or from a tar
// of a root file system (Import).
//
// What it links, TLS and decompressors above all, costs a program half a millisecond and
// four megabytes at each start. So it is linked into corten-image only, which corten starts
// when an image has to be brought, and never into corten itself.
package supply

import (
	"context"
	"errors"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
)

// Pull makes the image that ref names in its registry be here under that name, for the
// platform that is wanted or this machine's. It reports whether anything was new. Tell may
// be called from several goroutines at once and must be quick.
func Pull(ctx context.Context, l *image.Library, client *registry.Client, ref oci.Ref, want *oci.Platform, tell func(image.Event)) (x image.Image, news bool, err error) {
	name := image.Key(ref)
	lease, err := l.Store().Lease("pull " + ref.Familiar())
	if err != nil {
		return image.Image{}, false, err
	}
	defer lease.Close()
	if here, err := l.Store().Lookup(name); err == nil {
		same := ref.Digest != "" // which names the same bytes for ever
		if !same {
			there, err := client.Head(ctx, ref)
			if err != nil {
				return image.Image{}, false, err
			}
			same = there.Digest == here.Digest
		}
		if x, ok := l.Whole(name, here, want); same && ok {
			return x, false, nil
		}
	}
	target, raw, err := client.Resolve(ctx, ref)
	if err != nil {
		return image.Image{}, false, err
	}
	tell(image.Event{Stage: image.Pulling, Name: name})
	f := begin(l, lease)
	f.from, f.want, f.tell = repository{client, ref}, want, tell
	if x, err = f.run(ctx, target, raw); err != nil {
		return image.Image{}, false, during("pull", ref.Familiar(), err)
	}
	x.Ref = name
	return x, true, l.Store().SetRef(name, target)
}

// during says what was being done, unless err says so itself.
func during(op, object string, err error) error {
	if e := (*errs.Error)(nil); errors.As(err, &e) && e.Op == op {
		return err
	}
	return errs.Wrap(op, object, err)
}
