package erofs

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// Namespaces of attributes, each replaced by a number on disk. Those not named here, as
// "lustre." (5), have no handler in Linux.
const (
	spaceUser       = 1
	spaceACLAccess  = 2
	spaceACLDefault = 3
	spaceTrusted    = 4
	spaceSecurity   = 6
)

// overlayPrefix begins, within trusted (and within user, for overlays mounted without
// privilege), what overlayfs obeys; twice, what it shows with the prefix once.
const overlayPrefix = "overlay."

// attrKey is what makes an attribute the same as another.
type attrKey struct {
	space uint8
	name  string // without its namespace
	value string
}

// attr is an attribute as the image has it.
type attr struct {
	attrKey
	filter uint8  // the bit of its name in the name filter
	uses   uint32 // in how many inodes
	id     uint32 // when shared: its offset from the block of the shared area, in 4 bytes
}

// size is how many bytes a takes, in an inode or in the shared area.
func (a *attr) size() uint32 {
	return alignUp(uint32(xattrEntrySize+len(a.name)+len(a.value)), 4)
}

// put writes a at the beginning of p.
func (a *attr) put(p []byte) {
	p[0], p[1] = uint8(len(a.name)), a.space
	le.PutUint16(p[2:], uint16(len(a.value)))
	n := copy(p[xattrEntrySize:], a.name)
	copy(p[xattrEntrySize+n:], a.value)
}

// namespace splits an attribute's full name; space 0 says that Linux has none such.
func namespace(full string) (space uint8, name string) {
	switch full {
	case "system.posix_acl_access":
		return spaceACLAccess, ""
	case "system.posix_acl_default":
		return spaceACLDefault, ""
	}
	prefix, name, _ := strings.Cut(full, ".")
	if name == "" {
		return 0, ""
	}
	switch prefix {
	case "user":
		return spaceUser, name
	case "trusted":
		return spaceTrusted, name
	case "security":
		return spaceSecurity, name
	}
	return 0, ""
}

// collector finds out which attributes are the same.
type collector struct {
	*builder
	seen map[attrKey]int32
}

// collectXattrs gives every inode its attributes: its own, and those that tell overlayfs
// what it is.
func (b *builder) collectXattrs() error {
	c := collector{b, make(map[attrKey]int32)}
	b.refs = make([]int32, 0, len(b.entries))
	for i := range b.entries {
		e, n := &b.entries[i], &b.nodes[i]
		n.firstAttr = int32(len(b.refs))
		if e.Type == tree.Hardlink {
			continue
		}
		if err := c.own(e); err != nil {
			return err
		}
		if n.redirected {
			c.add(attrKey{spaceTrusted, overlayPrefix + "metacopy", c.metacopy(e.Object)})
		}
		if e.Opaque {
			c.add(attrKey{spaceTrusted, overlayPrefix + "opaque", "y"})
		}
		if n.marks&isWhiteout != 0 {
			c.mark(b.refs[n.firstAttr:], "whiteout", "")
		}
		if n.marks&hasWhiteouts != 0 {
			c.mark(b.refs[n.firstAttr:], "opaque", "x")
		}
		n.nAttrs = int32(len(b.refs)) - n.firstAttr
	}
	return nil
}

// own adds the attributes that e came with.
func (c *collector) own(e *tree.Entry) error {
	for i := range e.Xattrs {
		x := &e.Xattrs[i]
		if i > 0 && e.Xattrs[i-1].Name >= x.Name {
			return invalid(e.Path, "extended attributes out of order or twice")
		}
		space, name := namespace(x.Name)
		if space == 0 {
			c.dropped++
			continue
		}
		escaped := len(x.Name)
		if space == spaceTrusted && strings.HasPrefix(name, overlayPrefix) {
			name = overlayPrefix + name
			escaped += len(overlayPrefix)
		}
		switch {
		case escaped > maxXattrName:
			return invalid(e.Path, "extended attribute with a name longer than "+strconv.Itoa(maxXattrName)+" bytes")
		case strings.IndexByte(name, 0) >= 0:
			return invalid(e.Path, "extended attribute with a NUL byte in its name")
		case len(x.Value) > maxXattrValue:
			return invalid(e.Path, "extended attribute "+printable(x.Name)+" larger than "+
				strconv.Itoa(maxXattrValue)+" bytes")
		}
		c.acls = c.acls || space == spaceACLAccess || space == spaceACLDefault
		// The conversion for the look-up allocates nothing; only a new attribute is copied.
		if id, ok := c.seen[attrKey{space, name, string(x.Value)}]; ok {
			c.use(id)
		} else {
			c.add(attrKey{space, name, string(x.Value)})
		}
	}
	return nil
}

// metacopy is the value of the attribute that tells overlayfs to look for a file's content
// in a data-only layer, where redirect says: empty, or struct ovl_metacopy with the
// fs-verity digest (fs/overlayfs/overlayfs.h: version, length, flags, hash, digest).
func (c *collector) metacopy(object oci.Digest) string {
	const hashSHA256 = 1 // FS_VERITY_HASH_ALG_SHA256
	if c.opt.Verity == nil {
		return ""
	}
	digest, ok := c.opt.Verity(object)
	if !ok {
		return ""
	}
	head := [4]byte{0, byte(4 + len(digest)), 0, hashSHA256}
	return string(head[:]) + string(digest[:])
}

// mark adds an attribute for overlays mounted inside the container, with privilege
// (escaped, for the outer one to unescape) and without, unless the inode has it already.
func (c *collector) mark(has []int32, name, value string) {
	for _, k := range [...]attrKey{
		{spaceTrusted, overlayPrefix + overlayPrefix + name, value},
		{spaceUser, overlayPrefix + name, value},
	} {
		found := false
		for _, id := range has {
			found = found || c.attrs[id].space == k.space && c.attrs[id].name == k.name
		}
		if !found {
			c.add(k)
		}
	}
}

// add gives the current inode the attribute k.
func (c *collector) add(k attrKey) {
	id, ok := c.seen[k]
	if !ok {
		id = int32(len(c.attrs))
		c.seen[k] = id
		c.attrs = append(c.attrs, attr{attrKey: k, filter: filterBit(k.space, k.name)})
	}
	c.use(id)
}

func (c *collector) use(id int32) {
	c.attrs[id].uses++
	c.refs = append(c.refs, id)
}

// redirect is the one attribute that is made while it is written and never shared: nearly
// every file has one and nearly every one is different.
const (
	redirectName = overlayPrefix + "redirect"
	redirectSize = (xattrEntrySize + len(redirectName) + len("/01/") + 62 + 3) / 4 * 4
)

// putRedirect writes the attribute that leads to an object: absolute in its layer, the
// first two digits of the name being a directory.
func putRedirect(p []byte, object oci.Digest) {
	hex := object.Hex()
	p[0], p[1] = uint8(len(redirectName)), spaceTrusted
	le.PutUint16(p[2:], uint16(len("//")+len(hex)))
	p = p[xattrEntrySize+copy(p[xattrEntrySize:], redirectName):]
	p[0], p[3] = '/', '/'
	copy(p[1:], hex[:2])
	copy(p[4:], hex[2:])
}

// xattrsOf tells how many of n's attributes are references to the shared area and how
// many bytes all of them take in the inode.
func (b *builder) xattrsOf(n *node) (shared, size uint32) {
	if n.nAttrs == 0 {
		return 0, 0
	}
	size = xattrHeaderSize
	if n.redirected {
		size += uint32(redirectSize)
	}
	for _, id := range b.refs[n.firstAttr:][:n.nAttrs] {
		if a := &b.attrs[id]; a.uses > 1 && shared < maxSharedXattrs {
			shared++
			size += 4
		} else {
			size += a.size()
		}
	}
	return shared, size
}

// putXattrs writes inode i's attributes at the beginning of p: a header, references, the
// rest.
func (b *builder) putXattrs(i int, p []byte) {
	n := &b.nodes[i]
	if n.nAttrs == 0 {
		return
	}
	left, _ := b.xattrsOf(n)
	filter := ^uint32(0) // a set bit says that no attribute's name has it
	p[4] = uint8(left)
	ref, rest := p[xattrHeaderSize:], p[xattrHeaderSize+4*left:]
	for _, id := range b.refs[n.firstAttr:][:n.nAttrs] {
		a := &b.attrs[id]
		filter &^= 1 << a.filter
		if a.uses > 1 && left > 0 {
			le.PutUint32(ref, a.id)
			ref = ref[4:]
			left--
			continue
		}
		a.put(rest)
		rest = rest[a.size():]
	}
	if n.redirected {
		filter &^= 1 << filterBit(spaceTrusted, redirectName)
		putRedirect(rest, b.entries[i].Object)
	}
	le.PutUint32(p, filter)
}

// filterBit is the bit of an attribute's name in the name filter.
func filterBit(space uint8, name string) uint8 {
	return uint8(xxh32(name, xattrFilterSeed+uint32(space)) % xattrFilterWidth)
}

// xxh32 is the 32-bit xxHash of s (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
func xxh32(s string, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	word := func(i int) uint32 {
		return uint32(s[i]) | uint32(s[i+1])<<8 | uint32(s[i+2])<<16 | uint32(s[i+3])<<24
	}
	i, h := 0, seed+p5
	if len(s) >= 16 {
		lanes := [4]uint32{seed, seed, seed, seed}
		lanes[0] += p1
		lanes[0] += p2
		lanes[1] += p2
		lanes[3] -= p1
		for ; i+16 <= len(s); i += 16 {
			for j := range lanes {
				lanes[j] = bits.RotateLeft32(lanes[j]+word(i+4*j)*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(lanes[0], 1) + bits.RotateLeft32(lanes[1], 7) +
			bits.RotateLeft32(lanes[2], 12) + bits.RotateLeft32(lanes[3], 18)
	}
	h += uint32(len(s))
	for ; i+4 <= len(s); i += 4 {
		h = bits.RotateLeft32(h+word(i)*p3, 17) * p4
	}
	for ; i < len(s); i++ {
		h = bits.RotateLeft32(h+uint32(s[i])*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
