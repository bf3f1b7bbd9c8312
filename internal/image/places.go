package image

import (
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/tree"
)

// addPlaces gives a tree what every container mounts something on, if the image has nothing
// there. Each start would else make them in the container's writable layer, and somebody
// would have to remove them again: for a container that writes nothing that is most of what
// its disk is asked for.
func addPlaces(t *tree.Tree) {
	for _, e := range []tree.Entry{
		{Path: "dev", Type: tree.Dir, Mode: 0o755},
		{Path: "etc", Type: tree.Dir, Mode: 0o755},
		{Path: "etc/hostname", Type: tree.Regular, Mode: 0o644},
		{Path: "etc/hosts", Type: tree.Regular, Mode: 0o644},
		{Path: "proc", Type: tree.Dir, Mode: 0o755},
		{Path: "sys", Type: tree.Dir, Mode: 0o755},
	} {
		if parent := find(t, tree.Parent(e.Path)); strings.Contains(e.Path, "/") && (parent == nil || parent.Type != tree.Dir) {
			continue // such as a link, which leads elsewhere
		}
		at, found := slices.BinarySearchFunc(t.Entries, e.Path, func(e tree.Entry, p string) int { return tree.Compare(e.Path, p) })
		if !found {
			t.Entries = slices.Insert(t.Entries, at, e)
		}
	}
}
