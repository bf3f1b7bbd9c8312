package image

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/tree"
)

func TestFactsSurviveTheDisk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{
			Entries: rapid.IntRange(0, 1<<40).Draw(t, "entries"),
			Bytes:   rapid.Int64Min(0).Draw(t, "bytes"),
			Passwd:  rapid.SliceOf(rapid.Byte()).Draw(t, "passwd"),
			Group:   rapid.SliceOf(rapid.Byte()).Draw(t, "group"),
			Seal:    rapid.StringMatching("([0-9a-f]{64})?").Draw(t, "seal"),
		}
		got, ok := decodeFacts(f.encode())
		if !ok || !cmp.Equal(f, got) {
			t.Fatalf("%v came back as %v, %v", f, got, ok)
		}
	})
}

func FuzzFacts(f *testing.F) {
	f.Add([]byte(factsHead + "entries 1\nbytes 2\npasswd 3\ngroup 4\n\nabcdefg"))
	f.Add([]byte(factsHead + "entries 1\nbytes 2\npasswd 99999999999\ngroup -4\n\nabcdefg"))
	f.Add([]byte(factsHead + "passwd 1\n"))
	f.Add([]byte(factsHead + "entries 1\nbytes 2\npasswd 1\ngroup 0\nseal " + strings.Repeat("5", 64) + "\n\na"))
	f.Add([]byte(factsHead + "entries 1\nbytes 2\npasswd 1\ngroup 0\nseal 5\n\na"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if x, ok := decodeFacts(raw); ok && !bytes.Equal(x.encode(), raw) {
			t.Errorf("%q was read as %v", raw, x)
		}
	})
}

// entries makes a tree of paths, each with what a link leads to ("> target" symbolic,
// "= target" hard), or the content of a file; "/" is a directory.
func entries(pairs ...string) *tree.Tree {
	t := &tree.Tree{Entries: []tree.Entry{{Type: tree.Dir}}}
	for i := 0; i < len(pairs); i += 2 {
		e := tree.Entry{Path: pairs[i], Type: tree.Regular}
		to, what := pairs[i+1], byte(0)
		if to != "" {
			what = to[0]
		}
		switch what {
		case '>':
			e.Type, e.Link = tree.Symlink, to[2:]
		case '=':
			e.Type, e.Link = tree.Hardlink, to[2:]
		case '/':
			e.Type = tree.Dir
		default:
			e.Inline, e.Size = []byte(to), int64(len(to))
		}
		t.Entries = append(t.Entries, e)
	}
	return t
}

func TestAccountsAreFound(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tree *tree.Tree
		want string
	}{
		"a file":             {entries("etc", "/", "etc/passwd", "root"), "root"},
		"none":               {entries("etc", "/"), ""},
		"no etc":             {entries(), ""},
		"a directory":        {entries("etc", "/", "etc/passwd", "/"), ""},
		"a symbolic link":    {entries("etc", "/", "etc/passwd", "> ../usr/./p", "usr", "/", "usr/p", "linked"), "linked"},
		"an absolute link":   {entries("etc", "/", "etc/passwd", "> /usr/p", "usr", "/", "usr/p", "linked"), "linked"},
		"etc is a link":      {entries("etc", "> usr/etc", "usr", "/", "usr/etc", "/", "usr/etc/passwd", "moved"), "moved"},
		"above the root":     {entries("etc", "/", "etc/passwd", "> ../../../../usr", "usr", "stays inside"), "stays inside"},
		"a hard link":        {entries("etc", "/", "etc/a", "hard", "etc/passwd", "= etc/a"), "hard"},
		"hard and symbolic":  {entries("etc", "/", "etc/a", "> b", "etc/b", "end", "etc/passwd", "= etc/a"), "end"},
		"a loop":             {entries("etc", "/", "etc/passwd", "> passwd"), ""},
		"a dangling link":    {entries("etc", "/", "etc/passwd", "> nowhere"), ""},
		"through a file":     {entries("etc", "/", "etc/passwd", "> x/y", "etc/x", "a file"), ""},
		"a link to the root": {entries("etc", "/", "etc/passwd", "> /"), ""},
	} {
		f, err := gather(s, c.tree)
		if err != nil || string(f.Passwd) != c.want {
			t.Errorf("%s: found %q, %v, want %q", name, f.Passwd, err, c.want)
		}
	}
}

// A huge file is cut off between two lines.
func TestAccountsAreBounded(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lease, err := s.Lease("test")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	const line = "name:x:1:1::/:/bin/sh\n"
	d, err := lease.PutBytes([]byte(strings.Repeat(line, 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	x := entries("etc", "/", "etc/passwd", "")
	x.Entries[2].Object, x.Entries[2].Size = d, int64(100_000*len(line))
	f, err := gather(s, x)
	if n := len(f.Passwd); err != nil || n > maxAccounts || n < maxAccounts-len(line) || n%len(line) != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
