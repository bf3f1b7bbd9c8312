package dirtree

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/tree"
)

// overlay begins, in the namespace trusted or user, the attributes that overlayfs obeys;
// twice, what it shows with the prefix once.
const overlay = "overlay."

// xattrs sets the attributes that e came with, after those that mark it for an overlay
// mounted inside the container: e's own win.
func (w *writer) xattrs(dir int, name string, e *tree.Entry) error {
	if len(e.Xattrs) == 0 && len(w.whiteouts) == 0 {
		return nil
	}
	// There is no setxattrat before Linux 6.13. The magic link leads to the directory, and
	// lsetxattr does not follow what it finds there.
	path := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
	set := func(attr string, value []byte) error {
		if err := unix.Lsetxattr(path, attr, value, 0); err != nil {
			return errs.Wrap("set attribute", attr, err)
		}
		return nil
	}
	mark, value := "", ""
	switch {
	case isWhiteout(e):
		mark = "whiteout"
	case e.Type == tree.Dir && w.whiteouts[e.Path]:
		mark, value = "opaque", "x"
	}
	if mark != "" {
		for _, prefix := range w.markPrefixes() {
			if err := set(prefix+mark, []byte(value)); err != nil {
				return err
			}
		}
	}
	for _, x := range e.Xattrs {
		attr, ok := w.attribute(e, x.Name)
		if !ok {
			w.dropped++
			continue
		}
		if err := set(attr, x.Value); err != nil {
			return err
		}
	}
	return nil
}

// markPrefixes are those under which a nested overlay finds its marks, with privilege and
// without; escaped where the outer overlay would obey them.
func (w *writer) markPrefixes() []string {
	if w.opt.UserXattr {
		return []string{"user." + overlay + overlay}
	}
	return []string{"trusted." + overlay + overlay, "user." + overlay}
}

// attribute is the name under which e's attribute is set; false if it cannot be.
func (w *writer) attribute(e *tree.Entry, full string) (string, bool) {
	if full == "system.posix_acl_access" || full == "system.posix_acl_default" {
		return full, e.Type != tree.Symlink
	}
	space, name, _ := strings.Cut(full, ".")
	obeyed := "trusted"
	if w.opt.UserXattr {
		obeyed = "user"
	}
	switch {
	case name == "":
		return "", false
	case space == "user" && e.Type != tree.Regular && e.Type != tree.Dir && !isWhiteout(e):
		return "", false // xattr(7), "Extended user attributes"
	case space == "trusted" && w.opt.UserXattr:
		return "", false
	case space != "user" && space != "trusted" && space != "security":
		return "", false
	}
	if space == obeyed && strings.HasPrefix(name, overlay) {
		name = overlay + name
	}
	return space + "." + name, true
}
