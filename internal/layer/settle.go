package layer

import (
	"cmp"
	"slices"

	"github.com/cortenhq/corten/internal/tree"
)

// settle turns items, in the order of the tar, into the entries of an index. A tar is a
// history: where it names a path again, the later entry replaces the earlier one, and one
// that is no directory takes all with it that had been below. Marks are no part of that
// history: they speak of lower layers only, wherever they stand.
func settle(items []tree.Entry) ([]tree.Entry, error) {
	s := settler{items: items, entries: make([]tree.Entry, 0, len(items))}
	order := pathOrder(items)
	for len(order) > 0 {
		n := 1
		for n < len(order) && items[order[n]].Path == items[order[0]].Path {
			n++
		}
		if err := s.place(s.gather(order[:n])); err != nil {
			return nil, err
		}
		order = order[n:]
	}
	if s.lost {
		s.relink()
	}
	for i := range s.entries {
		if e := &s.entries[i]; e.Type == tree.Hardlink && e.Link == e.Path {
			return nil, corrupt(e.Path, "is a hard link to itself")
		}
	}
	return s.entries, nil
}

// pathOrder is the items' numbers by path, and for one path in the order of the tar.
func pathOrder(items []tree.Entry) []int32 {
	order := make([]int32, len(items))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(tree.Compare(items[a].Path, items[b].Path), cmp.Compare(a, b))
	})
	return order
}

// place is what a tar says of one path; its numbers are those of items, none is -1.
type place struct {
	path    string
	last    int32 // the last entry that is not a mark
	cut     int32 // the last entry that is neither a mark nor a directory
	gone    int32 // a whiteout
	emptied int32 // an opaque mark
}

// frame is a place above the present one that has a bearing on it.
type frame struct {
	path     string
	cut      int32 // entries below the path from before this one are lost
	leaf     bool  // ended up as something that is no directory
	whiteout int   // the entry that is only a whiteout, else -1
}

type settler struct {
	items   []tree.Entry
	entries []tree.Entry
	from    []int32 // the item of each entry, -1 for one that was made here
	frames  []frame // nested, the innermost last
	lost    bool    // a file was replaced or removed, to which hard links may lead
}

// gather sums up the items of one path.
func (s *settler) gather(group []int32) place {
	p := place{path: s.items[group[0]].Path, last: -1, cut: -1, gone: -1, emptied: -1}
	for _, i := range group {
		switch e := &s.items[i]; {
		case e.Type == tree.Whiteout && e.Opaque:
			p.emptied = i
		case e.Type == tree.Whiteout:
			p.gone = i
		default:
			s.lost = s.lost || p.cut >= 0
			p.last = i
			if e.Type != tree.Dir {
				p.cut = i
			}
		}
	}
	return p
}

// place appends the entry for p, if one is left.
func (s *settler) place(p place) error {
	for len(s.frames) > 0 && !tree.Under(p.path, s.frames[len(s.frames)-1].path) {
		s.frames = s.frames[:len(s.frames)-1]
	}
	above := frame{cut: -1, whiteout: -1}
	if len(s.frames) > 0 {
		above = s.frames[len(s.frames)-1]
	}
	for _, i := range []*int32{&p.last, &p.gone, &p.emptied} {
		if *i < above.cut {
			s.lost = s.lost || i == &p.last && p.cut >= 0
			*i = -1
		}
	}
	marked := p.gone >= 0 || p.emptied >= 0
	if p.last < 0 && (!marked || above.whiteout >= 0) {
		return nil // nothing is left, or a mark below a removed directory, which says nothing new
	}
	if above.leaf {
		return corrupt(p.path, "is below an entry that is not a directory")
	}
	if above.whiteout >= 0 { // removed, and made anew without being named
		s.entries[above.whiteout] = tree.Entry{Path: above.path, Type: tree.Dir, Mode: 0o755, Opaque: true}
		s.frames[len(s.frames)-1].whiteout = -1
	}
	if p.last < 0 {
		if p.gone >= 0 {
			s.frames = append(s.frames, frame{path: p.path, cut: above.cut, whiteout: len(s.entries)})
		}
		s.add(tree.Entry{Path: p.path, Type: tree.Whiteout, Opaque: p.gone < 0}, -1)
		return nil
	}
	e := s.items[p.last]
	leaf := e.Type != tree.Dir
	if leaf && p.emptied > p.cut {
		return corrupt(p.path, "is emptied and not a directory")
	}
	if !leaf {
		e.Opaque = marked || p.cut >= 0
	}
	if p.cut >= 0 {
		s.frames = append(s.frames, frame{path: p.path, cut: max(p.cut, above.cut), leaf: leaf, whiteout: -1})
	}
	s.add(e, p.last)
	return nil
}

func (s *settler) add(e tree.Entry, from int32) {
	s.entries = append(s.entries, e)
	s.from = append(s.from, from)
}

// relink repairs hard links after files were lost: a link leads to the file that its
// target's path meant at that point of the tar. Where that file's own name is lost, the
// first of its other names becomes the file.
func (s *settler) relink() {
	meant := map[string]int32{}
	file := make([]int32, len(s.items)) // the item that each item is another name of, or itself
	for i := range s.items {
		e := &s.items[i]
		file[i] = int32(i)
		if e.Type == tree.Dir || e.Type == tree.Whiteout {
			continue
		}
		if to, ok := meant[e.Link]; ok && e.Type == tree.Hardlink {
			file[i] = to
		}
		meant[e.Path] = file[i]
	}
	name := map[int32]string{} // under which an item is found now
	for k, i := range s.from {
		if i >= 0 {
			name[i] = s.entries[k].Path
		}
	}
	for k, i := range s.from {
		if i < 0 || s.items[i].Type != tree.Hardlink || file[i] == i {
			continue
		}
		if path, ok := name[file[i]]; ok {
			s.entries[k].Link = path
			continue
		}
		path := s.entries[k].Path
		s.entries[k] = s.items[file[i]]
		s.entries[k].Path = path
		name[file[i]] = path
	}
}
