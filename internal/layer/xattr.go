package layer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/tree"
)

// PAX records that carry extended attributes: star's, which all know and whose value is
// the bytes, and libarchive's, with the name in percent and the value in base64 coding.
// bsdtar writes both.
const (
	paxStar       = "SCHILY.xattr."
	paxLibarchive = "LIBARCHIVE.xattr."
)

const maxXattrs = 64 << 10 // bytes of names and values of one file: what Linux lists at most (XATTR_LIST_MAX)

// keptXattr says which attributes an image may bring along.
//
//   - user.* is data of the file, but for user.overlay.*, which an overlay mount in a user
//     namespace takes for its own: a layer could redirect a path with it;
//   - security.capability is file capabilities, which images rely on; all else in
//     security.* is a statement of the machine where the image was made (SELinux labels,
//     IMA and EVM signatures) and untrue here;
//   - POSIX ACLs are permissions like the mode;
//   - trusted.* is for the host's root alone, and trusted.overlay.* is the overlay's;
//   - anything else belongs to other systems.
func keptXattr(name string) bool {
	if strings.HasPrefix(name, "user.") {
		return len(name) > len("user.") && !strings.HasPrefix(name, "user.overlay.")
	}
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return false
}

// xattrs finds the attributes in the PAX records of an entry, sorted by name.
func xattrs(records map[string]string) (list []tree.Xattr, why string) {
	total := 0
	for key, value := range records {
		name, star := strings.CutPrefix(key, paxStar)
		if !star {
			coded, ok := strings.CutPrefix(key, paxLibarchive)
			if !ok {
				continue
			}
			var err error
			if name, err = url.PathUnescape(coded); err != nil {
				return nil, "has an extended attribute whose name cannot be decoded"
			}
			if _, twice := records[paxStar+name]; twice {
				continue
			}
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return nil, "has an extended attribute whose value cannot be decoded"
			}
			value = string(b)
		}
		if !keptXattr(name) {
			continue
		}
		total += len(name) + len(value)
		if len(name) > tree.XattrNameMax || strings.IndexByte(name, 0) >= 0 || total > maxXattrs {
			return nil, "has extended attributes that are too long"
		}
		list = append(list, tree.Xattr{Name: name, Value: []byte(value)})
	}
	// By value too: two codings of one name must not leave the choice to the map's order.
	slices.SortFunc(list, func(a, b tree.Xattr) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.Value, b.Value))
	})
	return slices.CompactFunc(list, func(a, b tree.Xattr) bool { return a.Name == b.Name }), ""
}
