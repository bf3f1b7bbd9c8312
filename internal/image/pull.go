package image

import (
	"context"
	"errors"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
)

// Pull makes the image that ref names in its registry be here under that name, for the
// platform that is wanted or this machine's. It reports whether anything was new. Tell may
// be called from several goroutines at once and must be quick.
func (l *Library) Pull(ctx context.Context, client *registry.Client, ref oci.Ref, want *oci.Platform, tell func(Event)) (x Image, news bool, err error) {
	name := key(ref)
	lease, err := l.store.Lease("pull " + ref.Familiar())
	if err != nil {
		return Image{}, false, err
	}
	defer lease.Close()
	if here, err := l.store.Lookup(name); err == nil {
		same := ref.Digest != "" // which names the same bytes for ever
		if !same {
			there, err := client.Head(ctx, ref)
			if err != nil {
				return Image{}, false, err
			}
			same = there.Digest == here.Digest
		}
		if x, ok := l.whole(name, here, want); same && ok {
			return x, false, nil
		}
	}
	target, raw, err := client.Resolve(ctx, ref)
	if err != nil {
		return Image{}, false, err
	}
	tell(Event{Stage: Pulling, Name: name})
	f := &fetch{from: repository{client, ref}, lease: lease, want: want, tell: tell}
	if x, err = l.fetch(ctx, f, target, raw); err != nil {
		return Image{}, false, during("pull", ref.Familiar(), err)
	}
	x.Ref = name
	return x, true, l.store.SetRef(name, target)
}

// during says what was being done, unless err says so itself.
func during(op, object string, err error) error {
	if e := (*errs.Error)(nil); errors.As(err, &e) && e.Op == op {
		return err
	}
	return errs.Wrap(op, object, err)
}

// whole returns the image that an index or manifest leads to, if all of it is here.
func (l *Library) whole(name string, target oci.Descriptor, want *oci.Platform) (Image, bool) {
	x := Image{Ref: name, Target: target}
	if p := Host(); want == nil && oci.IsIndex(target.MediaType) {
		want = &p // not any other that happens to be here
	}
	if l.fill(&x, target.Digest, want) != nil {
		return Image{}, false
	}
	for _, d := range x.Layers {
		if !l.store.HasLayer(d) {
			return Image{}, false
		}
	}
	_, ok, err := l.Tree(x)
	return x, ok && err == nil
}
