package store

import (
	"encoding/hex"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// objectID is an object's digest in 32 bytes: sets of 100,000 are common.
type objectID [32]byte

type objectSet map[objectID]struct{}

func (o objectSet) has(id objectID) bool { _, ok := o[id]; return ok }

// addAll adds what the layer x names.
func (o objectSet) addAll(x *tree.Index) {
	for i := range x.Entries {
		if id, ok := idOf(x.Entries[i].Object); ok {
			o[id] = struct{}{}
		}
	}
}

// idOf is false for "", and for a digest that names no object.
func idOf(d oci.Digest) (id objectID, ok bool) {
	const prefix = "sha256:"
	if len(d) != len(prefix)+64 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(d[len(prefix):]))
	return id, err == nil
}

// objectDirs is how many directories there are in objects/.
const objectDirs = 256

func objectDir(i int) string { return hex.EncodeToString([]byte{byte(i)}) }

// parseObject reads an object's name from its path.
func parseObject(dir, name string) (id objectID, ok bool) {
	if len(dir)+len(name) != 64 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(dir+name))
	return id, err == nil
}
