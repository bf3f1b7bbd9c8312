// Package draft takes a container from what a user asked for to a plan.
//
// A Draft is completed from the image or platform that it names, its control groups are planned,
// and unless it is dry it gets a directory with a lock and a name, a range of ids and its volumes.
// Then Plan is a pure function of all that, and Launch does what the plan says. Until then
// Discard takes everything back, and after a launch that failed as well; if this process is
// killed instead, the next sweep does, by the record that was written first. A container that is
// on disk is drafted Again for every start, and only Retreat then gives back what the start took.
package draft

import (
	"context"
	"os"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/image"
)

// Site is the place where containers are made: the engine fills it in once.
type Site struct {
	Dirs   container.Dirs
	Notify string                               // NOTIFY_SOCKET of the caller, sd_notify(3); empty: nobody wants to know
	Bring  func(context.Context, Request) error // pulls the image of a request
	Sweep  func() error                         // undoes what containers left whose owner was killed
}

// Images is the library of images. The environment may choose the form of trees, which is
// for those who test both.
func (s Site) Images() (*image.Library, error) {
	return image.Open(s.Dirs.Root, s.Dirs.Run, os.Getenv("CORTEN_TREE"))
}
