package store

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// TreeKind is the form in which a tree is stored.
type TreeKind uint8

const (
	EROFS  TreeKind = iota // one image file whose large files lead to objects
	Dir                    // a directory, where the kernel lacks what EROFS needs
	Sealed                 // as EROFS; it names the seals of its objects, and is sealed as they are
)

func (k TreeKind) String() string { return [...]string{"erofs", "dir", "sealed"}[k] }

// TreeKey names a tree by what it is made from. It is not a digest of the tree: it is known
// before there is one. It is a few lines of text, so that two keys that should be the same
// can be compared by eye:
//
//	corten tree 1
//	kind erofs
//	writer 1
//	layer sha256:…     the lowest first
type TreeKey struct{ lines string }

const treeHead = "corten tree 1\n"

// NewTreeKey is the key of the tree that layers, the lowest first, merge to. The writer is
// the version of the code that writes trees of this kind: when it would write other bytes,
// it makes other trees.
func NewTreeKey(kind TreeKind, writer int, layers []oci.Digest) TreeKey {
	var b strings.Builder
	b.WriteString(treeHead)
	b.WriteString("kind " + kind.String() + "\nwriter " + strconv.Itoa(writer) + "\n")
	for _, d := range layers {
		b.WriteString(lineLayer + string(d) + "\n")
	}
	return TreeKey{b.String()}
}

// String is the key's lines.
func (k TreeKey) String() string { return k.lines }

// ID is the name under which the tree is stored, 64 hexadecimal digits.
func (k TreeKey) ID() string {
	sum := sha256.Sum256([]byte(k.lines))
	return hex.EncodeToString(sum[:])
}

func (k TreeKey) kind() TreeKind {
	for _, kind := range []TreeKind{Dir, Sealed} {
		if strings.Contains(k.lines, "\nkind "+kind.String()+"\n") {
			return kind
		}
	}
	return EROFS
}

// layers are the diff ids in k, the lowest first.
func (k TreeKey) layers() []oci.Digest {
	var list []oci.Digest
	for line := range strings.Lines(k.lines) {
		if d, ok := strings.CutPrefix(line, lineLayer); ok {
			list = append(list, oci.Digest(strings.TrimSuffix(d, "\n")))
		}
	}
	return list
}

// isTreeID reports whether id has the form of TreeKey.ID, so that it may be part of a path.
func isTreeID(id string) bool { return oci.Digest("sha256:" + id).Valid() }

// payload is the file or directory in a tree's directory that is the tree.
func (k TreeKind) payload() string {
	if k == Dir {
		return "root"
	}
	return "tree.erofs"
}

// Tree returns the path of a tree: an EROFS image, or a directory.
func (s *Store) Tree(k TreeKey) (path string, ok bool) {
	path = s.path("trees", k.ID(), k.kind().payload())
	ok, err := exists(path)
	return path, ok && err == nil
}

// UseTree relies on a tree, with its layers and objects, and reports whether it is here.
func (l *Lease) UseTree(k TreeKey) (path string, ok bool, err error) {
	path = l.s.path("trees", k.ID(), k.kind().payload())
	ok, err = l.rely(lineTree, k.ID(), path)
	return path, ok, err
}

// PutTree records the tree of key k, whose layers must be recorded, and returns its path.
// The function build makes it at the path it is given: an EROFS image as a file that it
// creates, a directory by filling it. The tree is durable before it gets its name; if
// another process was first, its tree stays and this one is dropped.
func (l *Lease) PutTree(k TreeKey, build func(path string) error) (string, error) {
	path, ok, err := l.UseTree(k)
	if err == nil && !ok {
		err = l.putTree(k, build)
	}
	return path, l.s.wrap("record tree", k.ID(), err)
}

func (l *Lease) putTree(k TreeKey, build func(path string) error) error {
	dir := l.temp("tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	path := dir + "/" + k.kind().payload()
	if k.kind() == Dir {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
	}
	if err := build(path); err != nil {
		return err
	}
	if err := disk.WriteFile(dir+"/key", []byte(k.lines), 0o444, disk.Durable); err != nil {
		return err
	}
	if err := l.syncTree(k.kind(), path); err != nil {
		return err
	}
	return l.recordTree(k, dir)
}

// syncTree makes a tree durable. Its objects are already: a recorded layer names them. So
// an image file can be synced alone, without waiting for what else the host is writing; unless
// objects were sealed for it since.
func (l *Lease) syncTree(kind TreeKind, path string) error {
	if kind != EROFS {
		return l.sync()
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (l *Lease) recordTree(k TreeKey, dir string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := l.shared()
	if err != nil {
		return err
	}
	defer unlock()
	for _, d := range k.layers() {
		if !l.s.HasLayer(d) {
			return errs.New(errs.NotFound, "find layer", string(d), nil).WithHint("pull the image again")
		}
	}
	// A directory cannot replace one that has something in it: the first one stays.
	err = unix.Rename(dir, l.s.path("trees", k.ID()))
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return nil // Close removes ours
	}
	return err
}

// readTreeKey reads the key of the tree stored under id. It is false for what is not a
// tree, or not whole: a key proves itself by its digest.
func (s *Store) readTreeKey(id string) (TreeKey, bool) {
	b, err := os.ReadFile(s.path("trees", id, "key"))
	k := TreeKey{string(b)}
	return k, err == nil && k.ID() == id
}
