package container

import "github.com/cortenhq/corten/internal/spec"

// ReadLink is the container that a name or a range of ids leads to.
func ReadLink(path string) (spec.ContainerID, error) { return readLink(path) }
