package image

import "slices"

// MadeOf reports whether all layers of another image are the lowest of this one.
func (x Image) MadeOf(other Image) bool {
	n := len(other.Layers)
	return n > 0 && n <= len(x.Layers) && slices.Equal(x.Layers[:n], other.Layers)
}
