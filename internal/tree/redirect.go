package tree

import (
	"errors"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// maxHops is how many symlinks Linux follows in one path (MAXSYMLINKS, linux/namei.h).
const maxHops = 40

// redirect rewrites the paths of a layer's entries that go through symlinks of lower
// layers. It is the slow way, for the rare layer that needs it. An entry that the layer
// itself names at the same place wins over one that was led there.
func (m *merger) redirect(entries []*Entry) ([]*Entry, error) {
	find := func(path string) *Entry {
		i, ok := slices.BinarySearchFunc(entries, path, func(e *Entry, p string) int { return Compare(e.Path, p) })
		if !ok {
			return m.find(path)
		}
		if e := entries[i]; e.Type != Whiteout {
			return e
		} else if e.Opaque {
			return m.find(path)
		}
		return nil
	}
	moved := make([]*Entry, 0, len(entries))
	from := map[*Entry]bool{}
	for _, e := range entries {
		dir, last := Parent(e.Path), e.Path[len(Parent(e.Path)):]
		if e.Type == Whiteout && e.Opaque { // speaks of what is in the directory
			dir, last = e.Path, ""
		}
		to, err := resolve(dir, find)
		if err != nil {
			return nil, errs.New(errs.Corrupt, "place", shown(e.Path), err)
		}
		if path := join(to, last); path != e.Path {
			if why := fault(path); why != "" {
				return nil, errs.Newf(errs.Corrupt, "place", shown(path), why)
			}
			twin := *e
			twin.Path = path
			e = &twin
			from[e] = true
		}
		moved = append(moved, e)
	}
	slices.SortStableFunc(moved, func(a, b *Entry) int {
		if c := Compare(a.Path, b.Path); c != 0 || from[a] == from[b] {
			return c
		} else if from[b] {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(moved, func(a, b *Entry) bool { return a.Path == b.Path }), nil
}

// resolve follows the symlinks in the path of a directory, within the root; find knows
// what a path holds. A component that does not exist is kept as it is.
func resolve(dir string, find func(string) *Entry) (string, error) {
	done, rest := "", dir
	for hops := 0; rest != ""; {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		switch c {
		case "", ".":
			continue
		case "..":
			done = Parent(done)
			continue
		}
		next := join(done, c)
		e := find(next)
		switch {
		case e == nil || e.Type == Dir:
			done = next
		case e.Type != Symlink:
			return "", errBlocked
		case hops == maxHops:
			return "", errors.New("too many symlinks on the way")
		default:
			hops++
			rest = e.Link + "/" + rest
			if e.Link[0] == '/' {
				done = ""
			}
		}
	}
	return done, nil
}

// join puts name, with or without a leading "/", below dir.
func join(dir, name string) string {
	name = strings.TrimPrefix(name, "/")
	if dir == "" || name == "" {
		return dir + name
	}
	return dir + "/" + name
}
