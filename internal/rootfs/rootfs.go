// Package rootfs says how a container's root file system is put together: as steps of a
// plan, which package launch executes.
//
// Whatever the number of image layers, the root is one overlay: the container's writable
// layer over one read-only tree. The tree is an EROFS image whose larger files point into
// the store's objects, or a plain directory where the kernel cannot do that, or the host's
// own root below a mask.
package rootfs

import (
	"strconv"

	"github.com/cortenhq/corten/internal/plan"
)

// Handles of the parts of a root.
const (
	tree    plan.Handle = "tree"
	objects plan.Handle = "objects"
	layer   plan.Handle = "layer"
	mask    plan.Handle = "mask"
	host    plan.Handle = "host"
)

// Layer is the container's writable layer: a directory that holds "upper" and "work".
type Layer struct {
	Dir      string
	User     bool  // who mounts it is root of a user namespace only
	Volatile bool  // it is removed when the container ends, and need never reach the disk
	Size     int64 // bytes that it may take, in words only: its owner sees to that; 0: any number
}

// Image is a root on an EROFS tree and the objects that it points into.
func Image(treeFile, objectsDir string, l Layer) plan.Root {
	return plan.Root{
		Open: []plan.Step{
			plan.MountImage{File: treeFile, What: "the image's tree", As: tree},
			plan.CloneMount{Path: objectsDir, What: "the objects that the tree points into", As: objects},
			open(l),
		},
		Overlay: plan.Overlay{Lower: []plan.Handle{tree}, Data: []plan.Handle{objects}, Writable: layer, Volatile: l.Volatile},
	}
}

// Sealed is an Image whose content has to be as the tree says that it was sealed.
func Sealed(treeFile, objectsDir string, l Layer, how plan.Sealed) plan.Root {
	r := Image(treeFile, objectsDir, l)
	r.Overlay.Sealed = how
	return r
}

// Directory is a root on a plain directory tree.
func Directory(dir string, l Layer) plan.Root {
	return plan.Root{
		Open:    []plan.Step{plan.CloneMount{Path: dir, What: "the image's tree", As: tree}, open(l)},
		Overlay: plan.Overlay{Lower: []plan.Handle{tree}, Writable: layer, Volatile: l.Volatile, User: l.User},
	}
}

// Host is the host's own root below a mask, an EROFS image that hides directories.
//
// The host's files keep owners that the container does not have: its root is nobody to
// them, so what others may not read on the host, it may not read either. The mask is the
// container's: where it repeats a directory the container may create files.
// Binds lie on file systems of their own, below which the mask does not reach.
func Host(maskFile string, binds []Bind, l Layer) plan.Root {
	r := plan.Root{
		Open: []plan.Step{
			plan.MountImage{File: maskFile, What: "the mask over the host's sensitive places", As: mask},
			plan.CloneMount{Path: "/", What: "the host's root, without what is mounted below it", As: host},
			open(l),
		},
		Overlay:   plan.Overlay{Lower: []plan.Handle{mask, host}, Writable: layer, Volatile: l.Volatile},
		Unshifted: []plan.Handle{host},
	}
	for _, b := range binds {
		r.Binds = append(r.Binds, plan.File{
			Source: plan.Source{Path: b.Path}, Target: b.Path, ReadOnly: true, Hide: b.Hide, What: "the host's " + b.Path,
		})
	}
	return r
}

// HostOfUser is the host's programs in a root of their own, for who may not lay anything over the
// host's: dir is the rest of it, and binds are what holds programs, with all that is mounted below.
func HostOfUser(dir string, binds []Bind, l Layer) plan.Root {
	r := Directory(dir, l)
	for _, b := range binds {
		r.Binds = append(r.Binds, plan.File{Source: plan.Source{Path: b.Path}, Target: b.Path, ReadOnly: true, Recursive: true, Hide: b.Hide, What: "the host's " + b.Path})
	}
	return r
}

// Bind is a directory of the host that is shown read-only, and what of it is hidden.
type Bind struct {
	Path string
	Hide []string
}

func open(l Layer) plan.Step {
	what := "the writable layer"
	if l.Size > 0 {
		what += ", of at most " + strconv.FormatInt(l.Size, 10) + " bytes (project quota)"
	}
	return plan.CloneMount{Path: l.Dir, What: what, As: layer}
}
