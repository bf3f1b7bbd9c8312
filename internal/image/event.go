package image

import "github.com/cortenhq/corten/internal/oci"

// Stage is what is happening to a layer, or to the image.
type Stage uint8

// Stages. A layer is either Present, or goes from Waiting over Fetching to Complete.
const (
	Absent   Stage = iota // the image is not here and will be pulled
	Pulling               // the image begins to come
	Waiting               // the layer is going to be fetched
	Present               // the layer is here already
	Fetching              // Done of Total bytes have come
	Complete              // the layer is unpacked
	Retrying              // a request is repeated, because of Err
	Arrived               // the image is here
)

// Event tells how far an image on its way here has come.
type Event struct {
	Stage       Stage
	Name        string     // of the image, or what is repeated
	Layer       oci.Digest // as the manifest names it: of the compressed bytes
	Done, Total int64      // bytes
	Err         error
}
