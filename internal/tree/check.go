package tree

import (
	"cmp"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Limits on extended attributes, in bytes (linux/limits.h).
const (
	XattrNameMax  = 255
	XattrValueMax = 65536
)

// Check reports whether x keeps the promises of Index and Entry: canonical paths in
// strictly rising order, nothing below what is not a directory, and in each entry only
// the fields that its type has. Whether hard links lead anywhere is seen by Merge, since
// their target may be in a lower layer.
func (x *Index) Check() error {
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Object != "" && (e.Object.Algorithm() != "sha256" || !e.Object.Valid()) {
			return errs.Newf(errs.Corrupt, "check layer index", shown(e.Path), "has no valid object name")
		}
	}
	return x.check()
}

// check is all of Check but the form of the objects' names, which Decode makes itself.
func (x *Index) check() error {
	leaf := -1 // the last entry that can have nothing below it
	for i := range x.Entries {
		e := &x.Entries[i]
		why := e.fault()
		switch {
		case why != "":
		case i > 0 && Compare(x.Entries[i-1].Path, e.Path) >= 0:
			why = "is out of order"
		case leaf >= 0 && Under(e.Path, x.Entries[leaf].Path):
			why = "is below an entry that is not a directory"
		}
		if why != "" {
			return errs.Newf(errs.Corrupt, "check layer index", shown(e.Path), why)
		}
		if e.Type != Dir && !(e.Type == Whiteout && e.Opaque) {
			leaf = i
		}
	}
	return nil
}

// fault says what is wrong with the entry on its own, "" if nothing is.
func (e *Entry) fault() string {
	if why := fault(e.Path); why != "" {
		return why
	}
	switch {
	case e.Type == Invalid || e.Type > Whiteout:
		return "has no type"
	case e.Path == "" && e.Type != Dir && !(e.Type == Whiteout && e.Opaque):
		return "is the root and not a directory"
	case e.Mode > 0o7777:
		return "has mode bits beyond 07777"
	case e.NSec >= 1e9:
		return "has a time of more than a second of nanoseconds"
	case e.Opaque && e.Type != Dir && e.Type != Whiteout:
		return "is opaque and not a directory"
	case (e.Major != 0 || e.Minor != 0) && e.Type != Char && e.Type != Block:
		return "has a device number and is not a device"
	}
	if why := e.contentFault(); why != "" {
		return why
	}
	if e.Type == Hardlink || e.Type == Whiteout {
		return e.bareFault()
	}
	return xattrFault(e.Xattrs)
}

// contentFault looks at the fields that say what a file holds or links to.
func (e *Entry) contentFault() string {
	if e.Type != Regular && (e.Size != 0 || e.Object != "" || len(e.Inline) > 0) {
		return "has content and is not a regular file"
	}
	switch e.Type {
	case Regular:
		switch {
		case e.Link != "":
			return "has a link target and is no link"
		case e.Size < 0:
			return "has a negative size"
		case e.Object == "" && (int64(len(e.Inline)) != e.Size || e.Size > InlineMax):
			return "has not as many inline bytes as its size"
		case e.Object != "" && len(e.Inline) > 0:
			return "has both an object and inline bytes"
		}
	case Symlink:
		if e.Link == "" || len(e.Link) >= PathMax || strings.IndexByte(e.Link, 0) >= 0 {
			return "has a target that no symlink can have"
		}
	case Hardlink:
		if e.Link == "" || e.Link == e.Path || fault(e.Link) != "" {
			return "has a target that no hard link can have"
		}
	default:
		if e.Link != "" {
			return "has a link target and is no link"
		}
	}
	return ""
}

// bareFault holds hard links and whiteouts to having no metadata: a hard link's is its
// target's.
func (e *Entry) bareFault() string {
	if e.Mode != 0 || e.UID|e.GID|e.NSec != 0 || e.MTime != 0 || len(e.Xattrs) > 0 {
		return "has metadata that its type has not"
	}
	return ""
}

func xattrFault(list []Xattr) string {
	for i, a := range list {
		switch {
		case a.Name == "" || len(a.Name) > XattrNameMax || strings.IndexByte(a.Name, 0) >= 0:
			return "has an extended attribute with an impossible name"
		case len(a.Value) > XattrValueMax:
			return "has an extended attribute longer than 64 KiB"
		case i > 0 && cmp.Compare(list[i-1].Name, a.Name) >= 0:
			return "has extended attributes out of order"
		}
	}
	return ""
}
