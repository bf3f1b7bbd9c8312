package content

import (
	"encoding/binary"
	"slices"
)

// File capabilities are stored with the root that they are for (capabilities(7), "Namespaced
// file capabilities"). Outside a container its own root is a user like others.
const (
	capsV2    = 0x02000000 // VFS_CAP_REVISION_2, <linux/capability.h>
	capsV3    = 0x03000000
	capsMask  = 0xff000000
	capsV2Len = 20 // bytes; V3 has four more with the root's uid
	capsV3Len = 24
)

// capsInside is the attribute as the container sees it.
func (x ids) capsInside(v []byte) []byte {
	if len(x.uid) == 0 || len(v) != capsV3Len {
		return v
	}
	magic := binary.LittleEndian.Uint32(v)
	if root := binary.LittleEndian.Uint32(v[capsV2Len:]); magic&capsMask != capsV3 || fromHost(x.uid, root) != 0 {
		return v
	}
	v = slices.Clone(v[:capsV2Len])
	binary.LittleEndian.PutUint32(v, magic&^capsMask|capsV2)
	return v
}

// capsOutside is the inverse of capsInside.
func (x ids) capsOutside(v []byte) []byte {
	root, ok := toHost(x.uid, 0)
	if !ok || root == 0 || len(v) != capsV2Len {
		return v
	}
	magic := binary.LittleEndian.Uint32(v)
	if magic&capsMask != capsV2 {
		return v
	}
	v = binary.LittleEndian.AppendUint32(slices.Clone(v), root)
	binary.LittleEndian.PutUint32(v, magic&^capsMask|capsV3)
	return v
}
