package layer

import (
	"archive/tar"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/tree"
)

// Entries of one path, and what stood below it, in the order of a tar. The notation of an
// entry: path, then its type as in ls; a hard link "=target", removal "!" and emptying "-".
func TestSettle(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"b:1 a:2", "a:2 b:1"},
		{"a:1 a:2", "a:2"},
		{"a/ a:1", "a:1"},
		{"a:1 a/", "a/-"},
		{"a:1 a/ a/b:1", "a/- a/b:1"},
		{"a:1 a/b:1 a/", "a/- a/b:1"}, // out of order but clear
		{"a/ a/b:1 a:2", "a:2"},
		{"a/b/c:1 a:2 a/", "a/-"},
		{"a/b:1 a:2 a/ a/c:3", "a/- a/c:3"},
		{"a/b/ a:1 a/ a/b/c:2", "a/- a/b/c:2"},
		{"a! a:1", "a:1"},
		{"a:1 a!", "a:1"},
		{"a! a/", "a/-"},
		{"a! a/b:1", "a/- a/b:1"},
		{"a! a/b/ a/b/c! a/d!", "a/- a/b/ a/b/c! a/d!"},
		{"a! a/b! a/c-", "a!"},
		{"a! a/b! a/b/c:1", "a/- a/b/c:1"},
		{"a- a/b:1", "a- a/b:1"},
		{"a- a/", "a/-"},
		{"a- a!", "a!"},
		{"a! a!", "a!"},
		{"a/b! a:1", "a:1"},
		{"a- a:1", "a:1"},
		{"- a:1", "- a:1"},
		// Hard links lead to what their target was when they were made.
		{"a:1 b=a", "a:1 b=a"},
		{"b=a a:1", "a:1 b=a"},
		{"a:1 b=a a:2", "a:2 b:1"},
		{"a:1 b=a c=b a:2", "a:2 b:1 c=b"},
		{"a:1 c=a a:2 b=a", "a:2 b=a c:1"},
		{"a:1 b=a b:2", "a:1 b:2"},
		{"a:1 b=a c=b b:2", "a:1 b:2 c=a"},
		{"d/a:1 b=d/a d:2", "b:1 d:2"},
		{"a=low b=a a:2", "a:2 b=low"},
		{"a:1 a=a", "a:1"},
	} {
		var items []tree.Entry
		for _, f := range strings.Fields(c.in) {
			items = append(items, entryOf(f))
		}
		got, err := settle(items)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		var out []string
		for _, e := range got {
			out = append(out, notation(e))
		}
		if s := strings.Join(out, " "); s != c.want {
			t.Errorf("%s: got %s, want %s", c.in, s, c.want)
		}
	}
}

func entryOf(s string) tree.Entry {
	switch i := strings.IndexAny(s, ":="); {
	case i >= 0 && s[i] == ':':
		return tree.Entry{Path: s[:i], Type: tree.Regular, Size: int64(len(s) - i - 1), Inline: []byte(s[i+1:])}
	case i >= 0:
		return tree.Entry{Path: s[:i], Type: tree.Hardlink, Link: s[i+1:]}
	case strings.HasSuffix(s, "/"):
		return tree.Entry{Path: s[:len(s)-1], Type: tree.Dir, Mode: 0o700}
	}
	return tree.Entry{Path: s[:len(s)-1], Type: tree.Whiteout, Opaque: s[len(s)-1] == '-'}
}

func notation(e tree.Entry) string {
	switch e.Type {
	case tree.Regular:
		return e.Path + ":" + string(e.Inline)
	case tree.Hardlink:
		return e.Path + "=" + e.Link
	case tree.Dir:
		if e.Opaque {
			return e.Path + "/-"
		}
		return e.Path + "/"
	case tree.Whiteout:
		if e.Opaque {
			return e.Path + "-"
		}
	}
	return e.Path + "!"
}

// disk is a file system as tar sees it: extracting replaces what is there.
type disk map[string]*tree.Entry

func (d disk) extract(e tree.Entry) bool {
	for p := tree.Parent(e.Path); p != ""; p = tree.Parent(p) {
		if up := d[p]; up != nil && up.Type != tree.Dir {
			return false
		}
	}
	inode := &e
	if e.Type == tree.Hardlink {
		if inode = d[e.Link]; inode == nil || inode.Type == tree.Dir || e.Link == e.Path {
			return false
		}
	}
	if old := d[e.Path]; old == nil || old.Type != tree.Dir || e.Type != tree.Dir {
		for p := range d {
			if p == e.Path || tree.Under(p, e.Path) {
				delete(d, p)
			}
		}
	}
	for p := tree.Parent(e.Path); p != ""; p = tree.Parent(p) {
		if d[p] == nil {
			d[p] = &tree.Entry{Type: tree.Dir, Mode: 0o755}
		}
	}
	d[e.Path] = inode
	return true
}

func (d disk) tree() []tree.Entry {
	list := []tree.Entry{{Type: tree.Dir, Mode: 0o755}}
	first := map[*tree.Entry]string{}
	for _, p := range slices.SortedFunc(maps.Keys(d), tree.Compare) {
		e := *d[p]
		if f, ok := first[d[p]]; ok && e.Type != tree.Dir {
			e = tree.Entry{Type: tree.Hardlink, Link: f}
		}
		if e.Type != tree.Hardlink {
			first[d[p]] = p
		}
		e.Path = p
		list = append(list, e)
	}
	return list
}

// Any tar that can be extracted without an error comes out of settle and Merge as the
// extraction would.
func TestSettleAgainstExtraction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := disk{}
		var items []tree.Entry
		path := rapid.StringMatching(`[ab!](/[ab!]){0,2}`)
		for range rapid.IntRange(0, 14).Draw(t, "n") {
			e := tree.Entry{Path: path.Draw(t, "path")}
			switch rapid.IntRange(0, 3).Draw(t, "type") {
			case 0:
				e.Type, e.Mode = tree.Dir, uint16(rapid.IntRange(0, 7).Draw(t, "mode"))
			case 1:
				e.Type, e.Mode = tree.Fifo, uint16(rapid.IntRange(0, 7).Draw(t, "mode"))
			case 2:
				e.Type, e.Link = tree.Symlink, path.Draw(t, "target")
			case 3:
				e.Type, e.Link = tree.Hardlink, path.Draw(t, "target")
			}
			if d.extract(e) {
				items = append(items, e)
			}
		}
		entries, err := settle(slices.Clone(items))
		if err != nil {
			t.Fatal(err)
		}
		x := &tree.Index{Entries: entries}
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		got, err := tree.Merge(x)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.tree(), got.Entries); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestMarks(t *testing.T) {
	for _, c := range []struct {
		in   string
		want mark
	}{
		{"a/b", mark{}},
		{"a/x.wh.b", mark{}},
		{".wh.a", mark{markWhiteout, "a"}},
		{"a/.wh.b", mark{markWhiteout, "a/b"}},
		{"a/.wh.b.wh.c", mark{markWhiteout, "a/b.wh.c"}},
		{"a/.wh....", mark{markWhiteout, "a/..."}},
		{".wh..wh..opq", mark{markOpaque, ""}},
		{"a/.wh..wh..opq", mark{markOpaque, "a"}},
		{".wh..wh.plnk", mark{kind: markIgnored}},
		{".wh..wh.plnk/1.2", mark{kind: markIgnored}},
		{".wh..wh.orph/x/.wh.y", mark{kind: markIgnored}},
	} {
		if got, err := markOf(c.in); err != nil || got != c.want {
			t.Errorf("markOf(%q) = %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	if _, err := read(t, pack(t, typed(tar.TypeDir, ".wh.a/")), Options{}); err != nil {
		t.Errorf("a whiteout that is a directory: %v", err)
	}
}
