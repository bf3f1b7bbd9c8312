package tree

import (
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
)

func TestClean(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, c := range []struct{ in, out, fault string }{
		{"./", "", ""},
		{".", "", ""},
		{"/", "", ""},
		{"././/./", "", ""},
		{"a", "a", ""},
		{"./a/b/", "a/b", ""},
		{"/a//b/./c/.", "a/b/c", ""},
		{"//./a", "a", ""},
		{"...", "...", ""},
		{".a/..b", ".a/..b", ""},
		{"\xff/é", "\xff/é", ""},
		{strings.Repeat("n", 255), strings.Repeat("n", 255), ""},
		{"", "", "empty name"},
		{"..", "", `".."`},
		{"../etc", "", `".."`},
		{"a/../../etc/passwd", "", `".."`},
		{"a/..", "", `".."`},
		{"/..", "", `".."`},
		{"a\x00b", "", "NUL"},
		{long, "", "255"},
		{"a/" + long + "/b", "", "255"},
		{strings.Repeat("abc/", 1025), "", "4096"},
	} {
		got, err := Clean(c.in)
		if c.fault != "" {
			if !errs.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("Clean(%.40q) = %q, %v; want an error about %s", c.in, got, err, c.fault)
			}
			continue
		}
		if err != nil || got != c.out {
			t.Errorf("Clean(%.40q) = %q, %v; want %q", c.in, got, err, c.out)
		}
	}
}

// What Clean accepts means the same as what path.Clean says, and is left alone by Clean.
func TestCleanAgainstPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ab./]{1,12}`).Draw(t, "name")
		got, err := Clean(name)
		if err != nil {
			if !slices.Contains(strings.Split(name, "/"), "..") {
				t.Fatalf("Clean(%q): %v", name, err)
			}
			return
		}
		if want := path.Clean("/" + name)[1:]; got != want {
			t.Fatalf("Clean(%q) = %q, want %q", name, got, want)
		}
	})
}

func TestCompare(t *testing.T) {
	sorted := []string{"", "a", "a/b", "a/b/c", "a/b!", "a!", "a!/b", "a-", "aa", "b", "usr/share/doc/a-long-name", "usr/share/doc/a-long-name/x",
		"usr/share/doc/a-long-name-too", "\xff"}
	for i, a := range sorted {
		for k, b := range sorted {
			if c := Compare(a, b); (c < 0) != (i < k) || (c == 0) != (i == k) {
				t.Errorf("Compare(%q, %q) = %d", a, b, c)
			}
		}
	}
	// All below a directory stands together, right after it.
	for i, dir := range sorted {
		n := i + 1
		for n < len(sorted) && Under(sorted[n], dir) {
			n++
		}
		for _, p := range sorted[n:] {
			if Under(p, dir) {
				t.Errorf("%q is apart from %q", p, dir)
			}
		}
	}
}
