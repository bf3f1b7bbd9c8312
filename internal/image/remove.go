package image

import (
	"context"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
)

// Removed is what a removal came to.
type Removed struct {
	Untagged []string     // names that are gone, as people write them
	Deleted  []oci.Digest // ids of images that are gone
}

// Remove takes a name away, or an image by its identifier with all its names. What nothing
// leads to any more stays on the disk until Collect. An image that a container holds is not
// removed; with force it loses its name all the same.
func (l *Library) Remove(name string, force bool) (Removed, error) {
	const op = "remove image"
	entries, err := l.store.Images()
	if err != nil {
		return Removed{}, err
	}
	target, ref, err := l.target(name)
	if err != nil {
		return Removed{}, err
	}
	id := l.idOf(target)
	if ref != "" {
		if err := l.store.RemoveRef(ref, force); err != nil {
			return Removed{}, err
		}
		return l.gone(target, id, []string{ref})
	}
	var names []string
	for _, e := range entries {
		if e.Descriptor.Digest == target && e.Ref != "" {
			names = append(names, e.Ref)
		}
	}
	if len(names) > 1 && !force {
		return Removed{}, errs.Newf(errs.Busy, op, name, "it has several names: "+strings.Join(familiar(names), ", ")).
			WithHint("remove the names, or use --force to remove the image with all of them")
	}
	if err := l.store.Remove(target, force); err != nil {
		return Removed{}, err
	}
	return l.gone(target, id, names)
}

// target finds what is to be removed. It works for damaged images too, as long as they are
// called by a name or by the whole digest of what that leads to.
func (l *Library) target(name string) (target oci.Digest, ref string, err error) {
	r, rerr := oci.ParseRef(name)
	if rerr == nil {
		d, k, err := l.lookup(r)
		if err == nil {
			return d.Digest, k, nil
		}
		if !errs.Is(err, errs.NotFound) {
			return "", "", err
		}
	}
	if !isID(name) {
		return "", "", absent(name, notFoundOr(rerr))
	}
	list, err := l.store.Images()
	if err != nil {
		return "", "", err
	}
	for _, im := range list {
		if d := im.Descriptor.Digest; string(d) == name || d.Hex() == name {
			return d, "", nil
		}
	}
	found, err := l.store.Find(name)
	return found.Descriptor.Digest, "", err
}

// notFoundOr is err, or, when the name was right, that nothing has it.
func notFoundOr(err error) error {
	if err == nil {
		return errs.New(errs.NotFound, "", "", nil)
	}
	return err
}

// idOf is the identifier that people know an image by; "" if the image is damaged.
func (l *Library) idOf(target oci.Digest) oci.Digest {
	var x Image
	if l.fill(&x, target, nil) != nil {
		return ""
	}
	return x.ID
}

// gone says what was removed, now that it is.
func (l *Library) gone(target, id oci.Digest, names []string) (Removed, error) {
	r := Removed{Untagged: familiar(names)}
	list, err := l.store.Images()
	if err != nil {
		return r, err
	}
	for _, im := range list {
		if d := im.Descriptor.Digest; d == target || l.idOf(d) == id {
			return r, nil // it is still here, under another name or in another manifest
		}
	}
	if id != "" {
		r.Deleted = append(r.Deleted, id)
	}
	return r, nil
}

func familiar(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = n
		if ref, err := oci.ParseRef(n); err == nil {
			list[i] = ref.Familiar()
		}
	}
	return list
}

// Prune removes images that have no name, or with all every image that no container holds,
// if the filter lets them through. The space is freed by Collect.
func (l *Library) Prune(ctx context.Context, all bool, f Filter) (Removed, error) {
	var sum Removed
	if !all && f.Dangling == nil {
		yes := true
		f.Dangling = &yes
	}
	list, err := l.List(ctx, f)
	for _, s := range list {
		if s.Containers > 0 {
			continue
		}
		var rerr error
		var names []string
		if s.Image.Ref == "" {
			rerr = l.store.Remove(s.Image.Target.Digest, false)
		} else {
			rerr = l.store.RemoveRef(s.Image.Ref, false)
			names = []string{s.Image.Ref}
		}
		if errs.Is(rerr, errs.Busy) || errs.Is(rerr, errs.NotFound) {
			continue // somebody was faster
		}
		if rerr != nil {
			return sum, rerr
		}
		r, rerr := l.gone(s.Image.Target.Digest, s.Image.ID, names)
		if rerr != nil {
			return sum, rerr
		}
		sum.Untagged, sum.Deleted = append(sum.Untagged, r.Untagged...), append(sum.Deleted, r.Deleted...)
	}
	return sum, err
}

// Collect frees the space of what nothing leads to any more.
func (l *Library) Collect(ctx context.Context) (store.Freed, error) { return l.store.Collect(ctx) }

// Tag gives an image that is here one more name. An image that had the name stays without
// it.
func (l *Library) Tag(name string, to oci.Ref) error {
	const op = "tag image"
	if to.Digest != "" {
		return errs.Newf(errs.Invalid, op, to.Familiar(), "a digest cannot be chosen").WithHint("write NAME:TAG")
	}
	target, _, err := l.target(name)
	if err != nil {
		return err
	}
	list, err := l.store.Images()
	if err != nil {
		return err
	}
	for _, im := range list {
		if im.Descriptor.Digest == target {
			return l.store.SetRef(Key(to), im.Descriptor)
		}
	}
	return absent(name, notFoundOr(nil))
}
