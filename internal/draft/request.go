package draft

import (
	"os"

	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/spec"
)

// PullPolicy says when run asks the registry.
type PullPolicy string

// Pull policies, with Docker's names.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Request is what the user asked to run. Spec holds only what was asked for; a draft
// completes it from the image.
type Request struct {
	Spec     *spec.Container
	Pull     PullPolicy
	Platform string            // "linux/arm64"; empty: this machine's
	Progress func(image.Event) // of a pull; nil: nobody looks
	Quiet    bool              // show nothing of a pull that another program does
	Passed   Passed            // of a container in the foreground
}

// Passed is descriptors of the caller that the command gets as 3 and up.
type Passed struct {
	Files  []*os.File
	Listen int    // how many of them, the first ones, are sockets of systemd's socket activation
	Names  string // of those, as in LISTEN_FDNAMES
}
