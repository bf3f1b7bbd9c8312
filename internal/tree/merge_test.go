package tree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
)

// layerOf reads a layer from lines, for tests to be read by people:
//
//	d a/b [MODE]   o a/b (opaque directory)   f a TEXT   l a TARGET (symlink)
//	h a TARGET (hard link)   w a (whiteout)   e a (empties a, says no more)
func layerOf(lines ...string) *Index {
	x := &Index{}
	for _, line := range lines {
		f := strings.Fields(line)
		e := Entry{Path: strings.Trim(f[1], "/")}
		arg := ""
		if len(f) > 2 {
			arg = f[2]
		}
		switch f[0] {
		case "d", "o":
			e.Type, e.Mode, e.Opaque = Dir, 0o755, f[0] == "o"
			if arg != "" {
				fmt.Sscanf(arg, "%o", &e.Mode)
			}
		case "f":
			e.Type, e.Mode, e.Inline, e.Size = Regular, 0o644, []byte(arg), int64(len(arg))
		case "l":
			e.Type, e.Mode, e.Link = Symlink, 0o777, arg
		case "h":
			e.Type, e.Link = Hardlink, arg
		case "w", "e":
			e.Type, e.Opaque = Whiteout, f[0] == "e"
		}
		x.Entries = append(x.Entries, e)
	}
	slices.SortFunc(x.Entries, func(a, b Entry) int { return Compare(a.Path, b.Path) })
	return x
}

// linesOf is the inverse, for a tree; the root is left out unless its mode is not 0755.
func linesOf(t *Tree) []string {
	var out []string
	for _, e := range t.Entries {
		switch e.Type {
		case Dir:
			if e.Mode != 0o755 {
				out = append(out, fmt.Sprintf("d /%s %o", e.Path, e.Mode))
			} else if e.Path != "" {
				out = append(out, "d "+e.Path)
			}
		case Regular:
			out = append(out, "f "+e.Path+" "+string(e.Inline))
		case Symlink:
			out = append(out, "l "+e.Path+" "+e.Link)
		case Hardlink:
			out = append(out, "h "+e.Path+" "+e.Link)
		default:
			out = append(out, fmt.Sprintf("%d %s", e.Type, e.Path))
		}
	}
	return out
}

type layers = []*Index

type mergeCase struct {
	name   string
	layers layers
	want   []string
	fault  string
}

func mergeCases() []mergeCase {
	return []mergeCase{
		{name: "nothing", want: nil},
		{name: "root metadata", layers: layers{layerOf("d / 700"), layerOf("f a 1")}, want: []string{"d / 700", "f a 1"}},
		{name: "implicit parents", layers: layers{layerOf("f a/b/c 1", "f a/d 2")}, want: []string{"d a", "d a/b", "f a/b/c 1", "f a/d 2"}},
		{name: "replace a file", layers: layers{layerOf("f a 1", "f b 1"), layerOf("f a 2")}, want: []string{"f a 2", "f b 1"}},
		{name: "directory over directory", layers: layers{layerOf("d a 700", "f a/b 1"), layerOf("d a 711", "f a/c 2")},
			want: []string{"d /a 711", "f a/b 1", "f a/c 2"}},
		{name: "children only keep the directory", layers: layers{layerOf("d a 700"), layerOf("f a/c 2")}, want: []string{"d /a 700", "f a/c 2"}},
		{name: "file over directory", layers: layers{layerOf("f a/b/c 1", "f a! 1"), layerOf("f a 2")}, want: []string{"f a 2", "f a! 1"}},
		{name: "directory over file", layers: layers{layerOf("f a 1"), layerOf("d a", "f a/b 1")}, want: []string{"d a", "f a/b 1"}},
		{name: "directory over symlink", layers: layers{layerOf("l a b", "d b"), layerOf("d a", "f a/b 1")}, want: []string{"d a", "f a/b 1", "d b"}},
		{name: "whiteout of a file", layers: layers{layerOf("f a 1", "f ab 1"), layerOf("w a")}, want: []string{"f ab 1"}},
		{name: "whiteout of a directory", layers: layers{layerOf("f a/b/c 1", "f a! 1"), layerOf("w a")}, want: []string{"f a! 1"}},
		{name: "whiteout of nothing", layers: layers{layerOf("f b 1"), layerOf("w a", "w c/d")}, want: []string{"f b 1"}},
		{name: "opaque directory", layers: layers{layerOf("f a/b 1", "f a/c/d 1", "f ab 1"), layerOf("o a 700", "f a/x 2")},
			want: []string{"d /a 700", "f a/x 2", "f ab 1"}},
		{name: "opaque root", layers: layers{layerOf("f a/b 1"), layerOf("e /", "f c 2")}, want: []string{"f c 2"}},
		{name: "emptied directory keeps its metadata", layers: layers{layerOf("d a 700", "f a/b 1"), layerOf("e a", "f a/c 2")},
			want: []string{"d /a 700", "f a/c 2"}},
		{name: "emptied directory that is not there", layers: layers{layerOf("f b 1"), layerOf("e a")}, want: []string{"f b 1"}},
		{name: "whiteout in one layer, entry in the next", layers: layers{layerOf("f a/b 1"), layerOf("w a"), layerOf("f a/c 1")},
			want: []string{"d a", "f a/c 1"}},

		{name: "hard link in a layer", layers: layers{layerOf("f b 1", "h a b")}, want: []string{"f a 1", "h b a"}},
		{name: "hard link chain", layers: layers{layerOf("h a b", "h b c", "f c 1", "h d a")}, want: []string{"f a 1", "h b a", "h c a", "h d a"}},
		{name: "hard link to a lower layer", layers: layers{layerOf("f x/a 1"), layerOf("h b x/a")}, want: []string{"f b 1", "d x", "h x/a b"}},
		{name: "hard link through a lower symlink", layers: layers{layerOf("f usr/bin/a 1", "l bin usr/bin"), layerOf("h b bin/a")},
			want: []string{"f b 1", "l bin usr/bin", "d usr", "d usr/bin", "h usr/bin/a b"}},
		{name: "one name replaced, the others stay", layers: layers{layerOf("f a 1", "h b a", "h c a"), layerOf("f a 2")},
			want: []string{"f a 2", "f b 1", "h c b"}},
		{name: "one name removed", layers: layers{layerOf("f a 1", "h b a"), layerOf("w a")}, want: []string{"f b 1"}},
		{name: "a group grows over layers", layers: layers{layerOf("f b 1"), layerOf("h c b"), layerOf("h a c")},
			want: []string{"f a 1", "h b a", "h c a"}},
		{name: "hard link to a symlink", layers: layers{layerOf("l a x", "h b a")}, want: []string{"l a x", "h b a"}},
		{name: "hard link to nothing", layers: layers{layerOf("f a 1"), layerOf("h b c")}, fault: "does not exist"},
		{name: "hard link to what the layer removes", layers: layers{layerOf("f a 1"), layerOf("w a", "h b a")}, fault: "does not exist"},
		{name: "hard link to a directory", layers: layers{layerOf("d a", "h b a")}, fault: "is a directory"},
		{name: "hard links in a circle", layers: layers{layerOf("h a b", "h b c", "h c a")}, fault: "lead to each other"},
		{name: "hard link below a file", layers: layers{layerOf("f a 1", "h b a/c")}, fault: "parent is not a directory"},

		{name: "through a lower symlink", layers: layers{layerOf("l bin usr/bin", "f usr/bin/a 1"), layerOf("f bin/b 2", "w bin/a")},
			want: []string{"l bin usr/bin", "d usr", "d usr/bin", "f usr/bin/b 2"}},
		{name: "through absolute, dotted and chained symlinks", layers: layers{layerOf("l x /y", "l y ./z/../w/.", "d w 700"), layerOf("f x/a 1")},
			want: []string{"d /w 700", "f w/a 1", "l x /y", "l y ./z/../w/."}},
		{name: "a symlink cannot lead out", layers: layers{layerOf("l x ../../../etc"), layerOf("f x/a 1")}, want: []string{"d etc", "f etc/a 1", "l x ../../../etc"}},
		{name: "the named place wins over the one led to", layers: layers{layerOf("l bin usr/bin"), layerOf("f bin/a led", "f usr/bin/a named")},
			want: []string{"l bin usr/bin", "d usr", "d usr/bin", "f usr/bin/a named"}},
		{name: "emptied through a symlink", layers: layers{layerOf("l x y", "f y/a 1"), layerOf("e x", "f x/b 2")}, want: []string{"l x y", "d y", "f y/b 2"}},
		{name: "symlink loop", layers: layers{layerOf("l x y", "l y x"), layerOf("f x/a 1")}, fault: "too many symlinks"},
		{name: "below a lower file", layers: layers{layerOf("f x 1"), layerOf("f x/a 1")}, fault: "parent is not a directory"},
		{name: "emptied lower file", layers: layers{layerOf("f x 1"), layerOf("e x")}, fault: "parent is not a directory"},
		{name: "symlink to a file", layers: layers{layerOf("f x 1", "l y x"), layerOf("f y/a 1")}, fault: "parent is not a directory"},
	}
}

func TestMerge(t *testing.T) {
	for _, c := range mergeCases() {
		t.Run(c.name, func(t *testing.T) {
			for _, x := range c.layers {
				if err := x.Check(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Merge(c.layers...)
			if c.fault != "" {
				if !errs.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), c.fault) {
					t.Fatalf("got %v, want an error about %q", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, got)
			if d := cmp.Diff(c.want, linesOf(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

// The same layer twice is two sets of files.
func TestMergeRepeatedLayer(t *testing.T) {
	x := layerOf("f a 1")
	got, err := Merge(x, layerOf("h c a"), x)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"f a 1", "f c 1"}, linesOf(got)); d != "" {
		t.Error(d)
	}
}

// A long chain of links, each leading to the next, is walked once.
func TestMergeLongChain(t *testing.T) {
	const n = 200_000
	x := &Index{Entries: make([]Entry, n)}
	for i := range x.Entries {
		x.Entries[i] = Entry{Path: fmt.Sprintf("%08d", i), Type: Hardlink, Link: fmt.Sprintf("%08d", i+1)}
	}
	x.Entries[n-1] = Entry{Path: x.Entries[n-1].Path, Type: Fifo}
	got, err := Merge(x)
	if err != nil {
		t.Fatal(err)
	}
	if last := got.Entries[n]; last.Type != Hardlink || last.Link != "00000000" {
		t.Errorf("the last is %+v", last)
	}
}

// checkTree holds a tree to what its type promises.
func checkTree(t interface{ Fatalf(string, ...any) }, got *Tree) {
	types := map[string]Type{}
	for i, e := range got.Entries {
		switch {
		case i == 0 && (e.Path != "" || e.Type != Dir):
			t.Fatalf("the first entry is %q, not the root", e.Path)
		case i > 0 && Compare(got.Entries[i-1].Path, e.Path) >= 0:
			t.Fatalf("%q is out of order", e.Path)
		case i > 0 && types[Parent(e.Path)] != Dir:
			t.Fatalf("%q has no parent directory", e.Path)
		case e.Type == Whiteout || e.Opaque:
			t.Fatalf("%q is a mark", e.Path)
		case e.Type == Hardlink && (types[e.Link] == Invalid || types[e.Link] == Dir || types[e.Link] == Hardlink):
			t.Fatalf("%q links to %q, which is not before it", e.Path, e.Link)
		}
		types[e.Path] = e.Type
	}
}

// model is a file system as a map, to which layers are applied a step at a time.
type model map[string]*Entry

func (m model) remove(path string, self bool) {
	for p := range m {
		if Under(p, path) || self && p == path {
			delete(m, p)
		}
	}
}

// apply fails by returning false, as an unpacker would at that point.
func (m model) apply(x *Index) bool {
	for _, e := range x.Entries {
		if e.Type == Whiteout && !m.reaches(x, e) {
			return false
		}
		if e.Type == Whiteout || e.Opaque {
			m.remove(e.Path, e.Type == Whiteout && !e.Opaque)
		}
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Type == Whiteout || e.Type == Hardlink {
			continue
		}
		if !m.mkdirs(Parent(e.Path)) {
			return false
		}
		if old := m[e.Path]; old != nil && (old.Type != Dir || e.Type != Dir) {
			m.remove(e.Path, true)
		}
		m[e.Path] = e
	}
	var links []*Entry
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Type == Hardlink {
			links = append(links, e)
			m.remove(e.Path, true)
		}
	}
	for len(links) > 0 { // as long as one finds its target
		n := len(links)
		links = slices.DeleteFunc(links, func(e *Entry) bool {
			target := m[e.Link]
			if target == nil || target.Type == Dir || !m.mkdirs(Parent(e.Path)) {
				return false
			}
			m[e.Path] = target
			return true
		})
		if len(links) == n {
			return false
		}
	}
	return true
}

// reaches reports whether the directory that a mark is in can be one.
func (m model) reaches(x *Index, mark Entry) bool {
	dir := Parent(mark.Path)
	if mark.Opaque {
		dir = mark.Path
	}
	for ; dir != ""; dir = Parent(dir) {
		if slices.ContainsFunc(x.Entries, func(e Entry) bool { return e.Path == dir && e.Type == Dir }) {
			return true
		}
		if e := m[dir]; e != nil && e.Type != Dir {
			return false
		}
	}
	return true
}

func (m model) mkdirs(dir string) bool {
	for p := dir; ; p = Parent(p) {
		if e := m[p]; e == nil {
			m[p] = impliedDir()
		} else if e.Type != Dir {
			return false
		}
		if p == "" {
			return true
		}
	}
}

func (m model) tree() *Tree {
	t := &Tree{}
	first := map[*Entry]string{}
	for _, p := range slices.SortedFunc(maps.Keys(m), Compare) {
		e := *m[p]
		if f, ok := first[m[p]]; ok {
			e = Entry{Type: Hardlink, Link: f}
		} else if e.Type != Dir {
			first[m[p]] = p
		}
		e.Path, e.Opaque = p, false
		t.Entries = append(t.Entries, e)
	}
	return t
}

// drawIndex makes an index over few names, so that layers meet. Symlinks lead nowhere:
// that they are followed is for the table above.
func drawIndex(t *rapid.T, links bool) *Index {
	x := &Index{}
	paths := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab!](/[ab!]){0,3}|`), 0, 12, rapid.ID[string]).Draw(t, "paths")
	slices.SortFunc(paths, Compare)
	leaf := ""
	for _, p := range paths {
		if leaf != "" && Under(p, leaf) {
			continue
		}
		e := Entry{Path: p, Type: rapid.SampledFrom([]Type{Dir, Dir, Dir, Regular, Regular, Fifo, Hardlink, Whiteout, Whiteout}).Draw(t, "type")}
		if p == "" || e.Type == Hardlink && !links {
			e.Type = Dir
		}
		switch e.Type {
		case Dir, Whiteout:
			e.Opaque = rapid.IntRange(0, 3).Draw(t, "opaque") == 0
		case Hardlink:
			e.Link = rapid.StringMatching(`[ab!](/[ab!]){0,3}`).Filter(func(s string) bool { return s != p }).Draw(t, "link")
		case Regular:
			e.Inline = rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "bytes")
			e.Size = int64(len(e.Inline))
		}
		if e.Type != Hardlink && e.Type != Whiteout {
			e.Mode = uint16(rapid.IntRange(0, 0o7777).Draw(t, "mode"))
		}
		if e.Type != Dir && !e.Opaque {
			leaf = p
		}
		x.Entries = append(x.Entries, e)
	}
	return x
}

func TestMergeAgainstModel(t *testing.T) {
	for _, links := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			m := model{"": impliedDir()}
			var layers []*Index
			for range rapid.IntRange(1, 4).Draw(t, "layers") {
				x := drawIndex(t, links)
				if err := x.Check(); err != nil {
					t.Fatalf("made an invalid index: %v", err)
				}
				layers = append(layers, x)
				before := maps.Clone(m)
				ok := m.apply(x)
				got, err := Merge(layers...)
				if ok != (err == nil) {
					t.Fatalf("the model says %v, Merge %v", ok, err)
				}
				if !ok { // go on without it
					m, layers = before, layers[:len(layers)-1]
					continue
				}
				checkTree(t, got)
				if d := cmp.Diff(m.tree(), got, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })); d != "" {
					t.Fatal(d)
				}
			}
		})
	}
}
