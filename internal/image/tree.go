package image

import (
	"context"
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/dirtree"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/erofs"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/tree"
)

// treeWriter is the version of all that decides which bytes a tree has: tree.Merge, addPlaces,
// the writers of both kinds, and the facts. Whoever changes those bytes raises it, and trees are
// made anew.
const treeWriter = 2

// Tree is an image's file system, ready to be mounted.
type Tree struct {
	Kind store.TreeKind
	Path string // an EROFS image, or a directory
	ID   string // under which the store keeps it
}

// Facts reads what is recorded about the tree.
func (t Tree) Facts() (Facts, error) { return readFacts(t.Path) }

// Tree returns the tree of an image, if there is one of the kind that is wanted here. An
// image has none of it when it was pulled for another kernel.
func (l *Library) Tree(x Image) (Tree, bool, error) {
	kind, k, err := l.TreeKey(x.Layers)
	if err != nil {
		return Tree{}, false, err
	}
	path, ok := l.store.Tree(k)
	return Tree{kind, path, k.ID()}, ok, nil
}

// MakeTree makes the tree of an image whose layers are here.
func (l *Library) MakeTree(ctx context.Context, x Image) (Tree, error) {
	lease, err := l.store.Lease("tree of " + x.Ref)
	if err != nil {
		return Tree{}, err
	}
	defer lease.Close()
	if err := lease.Use(x.Target.Digest); err != nil {
		return Tree{}, err
	}
	kind, key, err := l.TreeKey(x.Layers)
	if err != nil {
		return Tree{}, err
	}
	d, err := l.Draw(ctx, kind, x.Layers, nil)
	if err != nil {
		return Tree{}, err
	}
	path, err := lease.PutTree(key, d.Write)
	return Tree{kind, path, key.ID()}, err
}

// Draw makes the tree of layers, the lowest first, but does not write it yet. Layers that
// are not in fresh are read from the store.
func (l *Library) Draw(ctx context.Context, k store.TreeKind, layers []oci.Digest, fresh map[oci.Digest]*tree.Index) (*Drawing, error) {
	t, err := l.merged(ctx, layers, fresh)
	if err != nil {
		return nil, err
	}
	d := &Drawing{store: l.store}
	if d.facts, err = gather(l.store, t); err != nil {
		return nil, errs.Wrap("read accounts of image", "", err)
	}
	addPlaces(t)
	if k == store.Dir {
		d.tree = t
		return d, nil
	}
	_, err = erofs.Write(&d.image, t, erofs.Options{})
	return d, err
}

// TreeKey is the kind of tree that is wanted here, and the key of the one of these layers.
func (l *Library) TreeKey(layers []oci.Digest) (store.TreeKind, store.TreeKey, error) {
	kind, err := l.treeKind()
	return kind, store.NewTreeKey(kind, treeWriter, layers), err
}

// merged is the tree of some layers. Those that are not in fresh are read from the store.
func (l *Library) merged(ctx context.Context, layers []oci.Digest, fresh map[oci.Digest]*tree.Index) (*tree.Tree, error) {
	indexes := make([]*tree.Index, len(layers))
	for i, d := range layers {
		if err := ctx.Err(); err != nil {
			return nil, errs.New(errs.Canceled, "merge layers", "", err)
		}
		if indexes[i] = fresh[d]; indexes[i] != nil {
			continue
		}
		var err error
		if indexes[i], err = l.store.Layer(d); err != nil {
			return nil, err
		}
	}
	return tree.Merge(indexes...)
}

// Drawing is a tree that has yet to be written to the disk. It is made while the layers are
// still on their way to the disk, and then only has to be written.
type Drawing struct {
	store *store.Store
	image imageBytes // EROFS
	tree  *tree.Tree // a directory
	facts Facts
}

// imageBytes takes an EROFS image, which its writer hands out in one piece and then forgets.
type imageBytes struct{ b []byte }

func (w *imageBytes) Write(b []byte) (int, error) {
	if w.b == nil {
		w.b = b
	} else {
		w.b = append(w.b, b...)
	}
	return len(b), nil
}

// Write writes the tree at path, and its facts beside it. The store then makes the tree
// durable, and the directory that both are in; the facts' content is ours to sync.
func (d *Drawing) Write(path string) error {
	if err := disk.WriteFile(filepath.Join(filepath.Dir(path), factsFile), d.facts.encode(), 0o444, disk.Durable); err != nil {
		return err
	}
	if d.tree != nil {
		_, err := dirtree.Write(d.tree, path, d.store.OpenObject, dirtree.Options{UserXattr: os.Geteuid() != 0 || nest.Inside(), Alone: nest.Single()})
		return err
	}
	return os.WriteFile(path, d.image.b, 0o444)
}
