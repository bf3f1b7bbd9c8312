package container

import (
	"encoding/base64"
	"encoding/hex"
	"os"

	"github.com/cortenhq/corten/internal/spec"
)

// The links names/NAME and ids/N hold an id in base64 (RFC 4648, section 5, without padding),
// 43 characters. Of 64 it would not fit into an inode of ext4, which takes less than 60: it
// would have a block of its own, and freeing that takes longer than all else about the link.

// linkTo makes a link to a container; it fails if there is one at path.
func linkTo(id spec.ContainerID, path string) error {
	target := string(id)
	if b, err := hex.DecodeString(target); err == nil && len(b) == 32 {
		target = base64.RawURLEncoding.EncodeToString(b)
	}
	return os.Symlink(target, path)
}

// readLink is the container that a link leads to. The id may be written in full, too.
func readLink(path string) (spec.ContainerID, error) {
	target, err := os.Readlink(path)
	if b, derr := base64.RawURLEncoding.DecodeString(target); derr == nil && len(b) == 32 {
		target = hex.EncodeToString(b)
	}
	return spec.ContainerID(target), err
}
