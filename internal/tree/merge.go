package tree

import (
	"errors"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Merge lays indexes over one another, the lowest first, by the rules of the OCI image
// specification (layer.md, "Applying Changesets"):
//
//   - a whiteout removes the path and all below it, an opaque directory the old content
//     below it; both concern lower layers only, never entries of their own layer;
//   - anything but a directory over a directory replaces all of it; a directory over a
//     directory replaces its metadata and keeps its content;
//   - a parent directory that no layer has is made: root's, 0755, time 0;
//   - a hard link's target is looked up when its layer has been applied. Names of one file
//     stay one file until a layer replaces one of them; the others are left as they are;
//   - an entry whose parent the layer does not have, and which is a symlink in the layers
//     below, goes where the symlink leads, as it does for those who unpack layers over one
//     another. Images assembled from parts, of which one says bin/x and another bin ->
//     usr/bin, rely on it.
//
// Every index must keep its promises (Check; Decode and the layer reader see to it). The
// tree shares the indexes' inline bytes and attributes: neither may be changed.
func Merge(layers ...*Index) (*Tree, error) {
	m := merger{
		nodes:  []node{{"", impliedDir()}},
		shared: map[*Entry]string{},
	}
	for i, x := range layers {
		entries := make([]*Entry, len(x.Entries))
		repeated := slices.Contains(layers[:i], x)
		for k := range x.Entries {
			entries[k] = &x.Entries[k]
			if repeated { // the same layer twice holds twice the files
				twin := x.Entries[k]
				entries[k] = &twin
			}
		}
		if err := m.apply(entries); err != nil {
			return nil, errs.Wrap("merge layer", string(x.DiffID), err)
		}
	}
	return m.tree(), nil
}

func impliedDir() *Entry { return &Entry{Type: Dir, Mode: 0o755} }

// node is a name in the merged tree. Names of one file share the entry, which stands for
// the inode; its own Path is then only one of them.
type node struct {
	path string
	e    *Entry
}

// merger holds the tree that the layers so far make: sorted, complete, without marks.
type merger struct {
	nodes  []node
	shared map[*Entry]string // entries that have more than one name, perhaps
}

// errBlocked: a layer entry has a parent that a lower layer made something else.
var errBlocked = errors.New("the parent is not a directory")

func (m *merger) apply(entries []*Entry) error {
	out, err := m.lay(entries)
	if errors.Is(err, errBlocked) {
		if entries, err = m.redirect(entries); err != nil {
			return err
		}
		out, err = m.lay(entries)
	}
	if err != nil {
		return err
	}
	m.nodes = out.nodes
	return m.link(out.links)
}

// overlay is the merged tree while it is written, in order.
type overlay struct {
	nodes []node
	open  []string // the directories that the last node is in, outermost first, and itself if it is one
	links []int    // nodes that are hard links of the layer, not yet resolved
}

// lay is one pass over both lists: each is sorted, and all below a path follows it.
func (m *merger) lay(entries []*Entry) (*overlay, error) {
	out := &overlay{nodes: make([]node, 0, len(m.nodes)+len(entries))}
	base := m.nodes
	for _, e := range entries {
		for len(base) > 0 && Compare(base[0].path, e.Path) < 0 {
			out.add(base[0].path, base[0].e)
			base = base[1:]
		}
		if out.blocks(e.Path) {
			return nil, errs.New(errs.Corrupt, "place", shown(e.Path), errBlocked)
		}
		old := len(base) > 0 && base[0].path == e.Path
		marked := e.Type == Whiteout && e.Opaque
		if marked && old {
			if base[0].e.Type != Dir {
				return nil, errs.New(errs.Corrupt, "place", shown(e.Path), errBlocked)
			}
			out.add(base[0].path, base[0].e)
		}
		if old {
			base = base[1:]
		}
		if e.Type != Dir || e.Opaque {
			for len(base) > 0 && Under(base[0].path, e.Path) {
				base = base[1:]
			}
		}
		if e.Type != Whiteout {
			out.add(e.Path, e)
		}
	}
	for _, n := range base {
		out.add(n.path, n.e)
	}
	return out, nil
}

// blocks reports whether path would be below something that is no directory. That would
// be the last node: nothing else can stand between the two.
func (o *overlay) blocks(path string) bool {
	if len(o.nodes) == 0 {
		return false
	}
	last := o.nodes[len(o.nodes)-1]
	return last.e.Type != Dir && Under(path, last.path)
}

// add appends a name, and before it the parents it lacks.
func (o *overlay) add(path string, e *Entry) {
	for len(o.open) > 0 && !Under(path, o.open[len(o.open)-1]) {
		o.open = o.open[:len(o.open)-1]
	}
	if len(o.open) > 0 {
		at := len(o.open[len(o.open)-1]) + 1
		for i := strings.IndexByte(path[at:], '/'); i >= 0; i = strings.IndexByte(path[at:], '/') {
			o.nodes = append(o.nodes, node{path[:at+i], impliedDir()})
			o.open = append(o.open, path[:at+i])
			at += i + 1
		}
	}
	if e.Type == Dir {
		o.open = append(o.open, path)
	}
	if e.Type == Hardlink {
		o.links = append(o.links, len(o.nodes))
	}
	o.nodes = append(o.nodes, node{path, e})
}

// link gives each new hard link the entry of its target. A link may lead to another; what
// a chain leads to is remembered for all of it, so that each link is followed once.
func (m *merger) link(links []int) error {
	leads := map[*Entry]*Entry{}
	for _, i := range links {
		e := m.nodes[i].e
		var chain []*Entry
		for e.Type == Hardlink {
			if end := leads[e]; end != nil {
				e = end
				break
			}
			chain = append(chain, e)
			next, err := m.target(e.Link)
			if err == nil && len(chain) > len(links) {
				err = errors.New("the hard links lead to each other")
			}
			if err != nil {
				return errs.New(errs.Corrupt, "hard link", shown(e.Path), err)
			}
			e = next
		}
		for _, c := range chain {
			leads[c] = e
		}
		m.nodes[i].e = e
		m.shared[e] = ""
	}
	return nil
}

func (m *merger) target(path string) (*Entry, error) {
	e := m.find(path)
	if e == nil {
		dir, err := resolve(Parent(path), m.find)
		if err != nil {
			return nil, err
		}
		e = m.find(join(dir, path[len(Parent(path)):]))
	}
	switch {
	case e == nil:
		return nil, errors.New("the target " + shown(path) + " does not exist")
	case e.Type == Dir:
		return nil, errors.New("the target " + shown(path) + " is a directory")
	}
	return e, nil
}

func (m *merger) find(path string) *Entry {
	i, ok := slices.BinarySearchFunc(m.nodes, path, func(n node, p string) int { return Compare(n.path, p) })
	if !ok {
		return nil
	}
	return m.nodes[i].e
}

// tree writes the result down: the first name of a file is the file.
func (m *merger) tree() *Tree {
	t := &Tree{Entries: make([]Entry, len(m.nodes))}
	for i, n := range m.nodes {
		first, many := m.shared[n.e]
		if many && first != "" {
			t.Entries[i] = Entry{Path: n.path, Type: Hardlink, Link: first}
			continue
		}
		if many {
			m.shared[n.e] = n.path
		}
		t.Entries[i] = *n.e
		t.Entries[i].Path = n.path
		t.Entries[i].Opaque = false
	}
	return t
}
