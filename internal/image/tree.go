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
	"github.com/cortenhq/corten/internal/seal"
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
	Path string    // an EROFS image, or a directory
	ID   string    // under which the store keeps it
	Seal seal.Seal // of a sealed one, by the kernel

	// Outdated says that sealed trees are wanted here by now. Pulling the image makes one, and Verify.
	Outdated bool
}

// Facts reads what is recorded about the tree.
func (t Tree) Facts() (Facts, error) {
	f, err := readFacts(t.Path)
	if err == nil && t.Kind == store.Sealed && f.Seal != t.Seal.Hex() {
		err = errs.Newf(errs.Corrupt, "read facts of tree", t.Path, "it is another tree than was sealed").
			WithHint("remove the image and pull it again; if this comes back, check the disk")
	}
	return f, err
}

// Tree returns the tree of an image, if there is one of the kind that is wanted here. An
// image has none of it when it was pulled for another kernel. One without seals, from before
// there were any, will do; a sealed one that has lost its seal, as a copy does, is not there.
func (l *Library) Tree(x Image) (t Tree, ok bool, err error) {
	kind, k, err := l.TreeKey(x.Layers)
	if err != nil {
		return Tree{}, false, err
	}
	t = Tree{Kind: kind, ID: k.ID()}
	t.Path, ok = l.store.Tree(k)
	if ok && kind == store.Sealed {
		t.Seal, ok, err = seal.Of(t.Path)
	}
	if ok || err != nil || kind != store.Sealed {
		return t, ok, err
	}
	k = store.NewTreeKey(store.EROFS, treeWriter, x.Layers)
	if path, there := l.store.Tree(k); there {
		return Tree{Kind: store.EROFS, Path: path, ID: k.ID(), Outdated: true}, true, nil
	}
	return t, false, nil
}

// MakeTree makes the tree of an image whose layers are here.
func (l *Library) MakeTree(ctx context.Context, x Image) (Tree, error) {
	return l.makeTree(ctx, x, l.Book())
}

func (l *Library) makeTree(ctx context.Context, x Image, book *seal.Book) (Tree, error) {
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
	d, err := l.Draw(ctx, kind, x.Layers, nil, book)
	if err != nil {
		return Tree{}, err
	}
	return d.Put(lease, kind, key)
}

// Book is an empty book for the seals of the store's objects.
func (l *Library) Book() *seal.Book {
	return seal.NewBook(func(d oci.Digest) string {
		path, _ := l.store.ObjectPath(d) // of one that the store has named
		return path
	})
}

// Draw makes the tree of layers, the lowest first, but does not write it yet. Layers that
// are not in fresh are read from the store. Of a sealed tree all objects are sealed then, and
// their seals in the book.
func (l *Library) Draw(ctx context.Context, k store.TreeKind, layers []oci.Digest, fresh map[oci.Digest]*tree.Index, book *seal.Book) (*Drawing, error) {
	t, err := l.merged(ctx, layers, fresh)
	if err != nil {
		return nil, err
	}
	d := &Drawing{store: l.store, sealed: k == store.Sealed}
	if d.facts, err = gather(l.store, t); err != nil {
		return nil, errs.Wrap("read accounts of image", "", err)
	}
	addPlaces(t)
	if k == store.Dir {
		d.tree = t
		return d, nil
	}
	opt := erofs.Options{}
	if d.sealed {
		if err := sealAll(ctx, t, book); err != nil {
			return nil, err
		}
		opt.Verity = func(object oci.Digest) ([32]byte, bool) { return book.Seal(object) }
	}
	_, err = erofs.Write(&d.image, t, opt)
	return d, err
}

// sealAll seals the objects of a tree that are not in the book.
func sealAll(ctx context.Context, t *tree.Tree, book *seal.Book) error {
	batch := book.Batch(ctx)
	for i := range t.Entries {
		if d := t.Entries[i].Object; d != "" {
			if _, ok := book.Seal(d); !ok {
				batch.Add(d)
			}
		}
	}
	return batch.Wait()
}

// TreeKey is the kind of tree that is wanted here, and the key of the one of these layers.
func (l *Library) TreeKey(layers []oci.Digest) (store.TreeKind, store.TreeKey, error) {
	kind, err := l.TreeKind()
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
	store  *store.Store
	image  imageBytes // EROFS
	sealed bool       // and to be sealed
	tree   *tree.Tree // a directory
	facts  Facts
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

// Put stores the tree under its key. One that is there and has lost its seal gets it back: the objects have
// theirs by now, and Facts will say whether it is the tree that was sealed.
func (d *Drawing) Put(lease *store.Lease, kind store.TreeKind, key store.TreeKey) (Tree, error) {
	path, err := lease.PutTree(key, d.write)
	t := Tree{Kind: kind, Path: path, ID: key.ID()}
	if err == nil && d.sealed {
		t.Seal, err = seal.File(path)
	}
	return t, err
}

// write writes the tree at path, and its facts beside it. The store then makes the tree
// durable, and the directory that both are in; the facts' content is ours to sync.
func (d *Drawing) write(path string) (err error) {
	if d.tree != nil {
		_, err = dirtree.Write(d.tree, path, d.store.OpenObject, dirtree.Options{UserXattr: os.Geteuid() != 0 || nest.Inside(), Alone: nest.Single()})
	} else {
		err = os.WriteFile(path, d.image.b, 0o444)
	}
	if err == nil && d.sealed {
		var s seal.Seal
		s, err = seal.File(path)
		d.facts.Seal = s.Hex()
	}
	if err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(filepath.Dir(path), factsFile), d.facts.encode(), 0o444, disk.Durable)
}
