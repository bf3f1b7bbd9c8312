package image

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/tree"
)

// TestPlaces adds what is not there and leaves alone what is.
func TestPlaces(t *testing.T) {
	root := tree.Entry{Type: tree.Dir, Mode: 0o755}
	paths := func(t *tree.Tree) (list []string) {
		for _, e := range t.Entries {
			list = append(list, e.Path)
		}
		return list
	}
	for name, c := range map[string]struct {
		has  []tree.Entry
		want []string
	}{
		"empty": {nil, []string{"", "dev", "etc", "etc/hostname", "etc/hosts", "proc", "sys"}},
		"all": {[]tree.Entry{{Path: "dev", Type: tree.Dir, Mode: 0o700}, {Path: "etc", Type: tree.Dir}, {Path: "etc/hostname", Type: tree.Regular},
			{Path: "etc/hosts", Type: tree.Symlink, Link: "x"}, {Path: "proc", Type: tree.Dir}, {Path: "sys", Type: tree.Dir}},
			[]string{"", "dev", "etc", "etc/hostname", "etc/hosts", "proc", "sys"}},
		"other kinds": {[]tree.Entry{{Path: "etc", Type: tree.Symlink, Link: "usr/etc"}, {Path: "proc", Type: tree.Regular}, {Path: "sys-a", Type: tree.Dir}},
			[]string{"", "dev", "etc", "proc", "sys", "sys-a"}},
	} {
		x := &tree.Tree{Entries: append([]tree.Entry{root}, c.has...)}
		addPlaces(x)
		if d := cmp.Diff(c.want, paths(x)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		for _, e := range c.has {
			if d := cmp.Diff(&e, find(x, e.Path)); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}
